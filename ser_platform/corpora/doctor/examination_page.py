"""The findings about a corpus as one HTML page without external files, safe against markup in names.

File and speaker names are untrusted: all text is escaped, the figures are images without such text, and the page's
Content-Security-Policy forbids scripts and requests.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import median

from ser_platform.corpora.doctor.diagnosis import Finding
from ser_platform.corpora.doctor.examination import Examination
from ser_platform.corpora.doctor.examination_report import (
    count_clips_by_speaker_and_emotion,
    escape_unprintable,
    group_by_level,
    has_spoiling_finding,
)
from ser_platform.corpora.doctor.measurements import NOISE_PERCENTILE, PAUSE_DB, SPEECH_PERCENTILE
from ser_platform.corpora.doctor.svg_figures import draw_figures
from ser_platform.files import replacing

MAX_LISTED = 2000  # cases of a finding on the page; the JSON has all
MAX_OPEN = 12  # cases; a longer list is closed at first
MEANING = {"spoils": "an experiment would be wrong", "beware": "may bias results", "note": "for information"}

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.verdict { display: inline-block; border-radius: .4rem; padding: .3rem .8rem; color: #fff; font-weight: 600; }
.verdict.bad { background: #a93226; } .verdict.good { background: #1e7d46; }
.facts { color: #555; margin: .3rem 0 1rem; overflow-wrap: anywhere; }
.finding { border-left: .35rem solid; padding: .35rem .8rem; margin: .5rem 0; background: #f7f7f8; }
.spoils { border-color: #a93226; } .beware { border-color: #d6900b; } .note { border-color: #5b7fa6; }
.code { color: #666; font: 12px/1.5 ui-monospace, monospace; float: right; margin-left: 1rem; }
details { margin-top: .2rem; } summary { cursor: pointer; color: #444; }
ul { margin: .3rem 0; padding-left: 1.3rem; font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 46rem; border: 1px solid #ddd; border-radius: .3rem; width: fit-content;
  max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .75rem; text-align: right; white-space: nowrap; }
thead th { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #ccc; }
th:first-child { text-align: left; } td.none { color: #a93226; font-weight: 700; }
tr.sum > * { border-top: 1px solid #ccc; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(28rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } img { width: 100%; height: auto; }
.how { color: #555; font-size: 13px; }
"""
HOW = (
    "Identical: the SHA-256 of the decoded samples is the same. Nearly identical: the fingerprints (Haitsma & Kalker, "
    "ISMIR 2002; 32 bits every 16 ms) differ in few bits over the overlap. Gain, resampling, codecs, trimming and weak "
    "noise change few bits, another take of the sentence changes many. Speech over noise: an estimate, the "
    f"{SPEECH_PERCENTILE}th over the {NOISE_PERCENTILE}th percentile of the power of 20 ms frames, as in NIST's stnr. "
    f"Pauses: frames more than {PAUSE_DB:g} dB below that speech level. Clipping, peak and DC offset: measured on the "
    "samples as recorded, before mixing and resampling."
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_page(exam: Examination, findings: Sequence[Finding], path: Path) -> None:
    """Write the page about an examined corpus to `path`."""
    with replacing(path) as temporary:
        temporary.write_text(render_page(exam, findings), encoding="utf-8")


def render_page(exam: Examination, findings: Sequence[Finding]) -> str:
    """Return the page as HTML."""
    name = _escape(exam.collected.name)
    is_bad = has_spoiling_finding(findings)
    verdict = "would spoil an experiment" if is_bad else "nothing here spoils an experiment"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{name}: corpus doctor</title><style>{STYLE}</style></head><body>",
        f"<h1>{name}</h1>",
        f'<p class="facts">{_summarise(exam)}</p>',
        f'<p class="verdict {"bad" if is_bad else "good"}">{verdict}</p>',
        *_render_findings(findings),
        *_render_counts(exam),
        *_render_figures(exam),
        f'<h2>How it was measured</h2><p class="how">{_escape(HOW)}</p>',
        "</body></html>",
    ]
    return "\n".join(parts)


def _escape(text: object) -> str:
    return escape(escape_unprintable(str(text)))


def _summarise(exam: Examination) -> str:
    seconds = [clip.seconds for clip in exam.measures]
    facts = [
        f"{len(seconds)} clips",
        f"{sum(seconds) / 60:.1f} minutes",
        f"{len(exam.manifest.speakers)} speakers",
        f"{len(exam.manifest.labels)} emotions",
    ]
    if seconds:
        facts.append(f"{min(seconds):.2f} to {max(seconds):.2f} s, median {median(seconds):.2f} s")
    rates = sorted({clip.sample_rate for clip in exam.measures})
    facts += [f"{' and '.join(map(str, rates))} Hz"] if rates else []
    facts += sorted({clip.subtype for clip in exam.measures})
    return _escape(" · ".join([*facts, *map(str, exam.collected.roots)]))


def _render_findings(findings: Sequence[Finding]) -> Iterable[str]:
    for level, found in group_by_level(findings).items():
        if found:
            yield f"<h2>{level.capitalize()}: {MEANING[level]}</h2>"
        for finding in found:
            yield f'<div class="finding {level}"><span class="code">{_escape(finding.code)}</span>'
            yield _escape(finding.text)
            yield from _render_cases(finding.details or finding.clips or finding.speakers)
            yield "</div>"


def _render_cases(cases: Sequence[str]) -> Iterable[str]:
    if not cases:
        return
    items = "".join(f"<li>{_escape(case)}</li>" for case in cases[:MAX_LISTED])
    more = f"<li>and {len(cases) - MAX_LISTED} more in the JSON</li>" if len(cases) > MAX_LISTED else ""
    state = " open" if len(cases) <= MAX_OPEN else ""
    yield f"<details{state}><summary>{len(cases)} cases</summary><ul>{items}{more}</ul></details>"


def _render_counts(exam: Examination) -> Iterable[str]:
    """Yield the table of clips by speaker and emotion; a cell is darker the more clips it counts."""
    counts, labels = count_clips_by_speaker_and_emotion(exam), exam.manifest.labels
    if not counts:
        return
    most = max(max(row.values()) for row in counts.values())
    yield "<h2>Clips by speaker and emotion</h2>"
    yield '<div class="scroll"><table><thead><tr><th>speaker</th>'
    yield "".join(f"<th>{label}</th>" for label in labels) + "<th>all</th></tr></thead><tbody>"
    for speaker, row in counts.items():
        cells = "".join(_render_cell(row[label], most) for label in labels)
        yield f"<tr><th>{_escape(speaker)}</th>{cells}<td>{sum(row.values())}</td></tr>"
    sums = [sum(row[label] for row in counts.values()) for label in labels]
    cells = "".join(f"<td>{total}</td>" for total in sums)
    yield f'<tr class="sum"><th>all</th>{cells}<td>{sum(sums)}</td></tr></tbody></table></div>'


def _render_cell(count: int, most: int) -> str:
    if not count:
        return '<td class="none">0</td>'
    return f'<td style="background:rgb(72 120 168 / {0.06 + 0.5 * count / most:.2f})">{count}</td>'


def _render_figures(exam: Examination) -> Iterable[str]:
    drawn = draw_figures(exam.measures)
    if not drawn:
        return
    yield '<h2>Sound</h2><div class="figures">'
    for title, svg in drawn.items():
        data = base64.b64encode(svg).decode()
        yield f'<figure><figcaption>{title}</figcaption><img alt="Histogram: {title}"'
        yield f' src="data:image/svg+xml;base64,{data}"></figure>'
    yield "</div>"
