"""One self-contained HTML page about a study: title, answer, tables, figures.

All text is escaped, and the page's content security policy allows only its own two scripts: names of corpora and
settings are not trusted.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ser_platform.tuning.report.interactive_plots import read_plotly_js

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.question { font-size: 1.1rem; color: #444; margin: .2rem 0; }
.answer { border-left: .35rem solid #2c5f8a; padding: .35rem .8rem; background: #f7f7f8; }
.answer p { margin: .25rem 0; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 36rem; border: 1px solid #ddd; border-radius: .3rem; max-width: 100%;
  width: fit-content; }
table { border-collapse: separate; border-spacing: 0; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .75rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #ccc; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(28rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-weight: 600; } img { width: 100%; height: auto; }
.plot { height: 26rem; } .how { color: #555; font-size: 13px; }
"""


@dataclass(frozen=True)
class PageTable:
    """A table of the page, under its title and a sentence that defines its columns. Without rows it is left out."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class StudyPage:
    """The content of the page. `figures` are captions by PNG file, `plots` plotly's JSON by title."""

    title: str
    question: str
    summary: Sequence[str]
    tables: Sequence[PageTable]
    figures: Mapping[str, str]
    plots: Mapping[str, str]
    method: str

    def render(self, folder: Path) -> str:
        """Return the page's HTML, which contains the PNGs of `folder`."""
        scripts = [read_plotly_js(), self._make_script()] if self.plots else []
        hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
        runs = f" script-src {hashes};" if scripts else ""
        policy = f"default-src 'none';{runs} style-src 'unsafe-inline'; img-src data: blob:"
        parts = [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head><body>",
            f'<h1>{escape(self.title)}</h1><p class="question">{escape(self.question)}</p>',
            '<div class="answer">' + "".join(f"<p>{escape(line)}</p>" for line in self.summary) + "</div>",
            *(part for table in self.tables for part in _render_table(table)),
            *self._render_figures(folder),
            *(
                f'<h2>{escape(title)}</h2><div class="plot" id="plot{n}" role="img" aria-label="{escape(title)}; '
                'the tables contain its data"></div>'
                for n, title in enumerate(self.plots)
            ),
            f'<h2>Method</h2><p class="how">{escape(self.method)}</p>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
        return "\n".join(parts)

    def _make_script(self) -> str:
        calls = (
            f"(f=>Plotly.newPlot('plot{n}',f.data,f.layout,{{responsive:true,displaylogo:false}}))({figure});"
            for n, figure in enumerate(self.plots.values())
        )
        return "".join(calls)

    def _render_figures(self, folder: Path) -> Iterable[str]:
        if self.figures:
            yield '<h2>Figures</h2><div class="figures">'
            for name, title in self.figures.items():
                data = base64.b64encode((folder / name).read_bytes()).decode()
                alt = f'alt="{escape(title)}" src="data:image/png;base64,{data}"'
                yield f"<figure><figcaption>{escape(title)}</figcaption><img {alt}></figure>"
            yield "</div>"


def _render_table(table: PageTable) -> Iterable[str]:
    if not table.rows:
        return
    yield f'<h2>{escape(table.title)}</h2><p class="how">{escape(table.note)}</p>'
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns) + "</tr></thead><tbody>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
