"""`ser corpora`: what is there, and is it ready."""

from typing import Annotated

import typer

from ser_platform.cli.output import console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Corpora: list them, prepare one.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the corpora and where they were found."""
    from ser_platform.corpora import CORPORA
    from ser_platform.corpora.finding import located

    entries = [
        {
            "name": name,
            "clips": adapter.CLIPS,
            "speakers": adapter.SPEAKERS,
            "emotions": list(adapter.EMOTIONS.values()),
            "path": str(path) if (path := located(name)) else None,
        }
        for name, adapter in CORPORA.items()
    ]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            str(entry["name"]),
            str(entry["clips"]),
            str(entry["speakers"]),
            str(len(entry["emotions"])),
            str(entry["path"] or ("spoken on first use" if entry["name"] == "demo" else "not found; set SER_CORPORA")),
        ]
        for entry in entries
    ]
    console().print(table("Corpora", ["name", "clips", "speakers", "emotions", "where"], rows))


@app.command()
def prepare(
    corpus: Annotated[str, typer.Argument(help="Name or folder.")],
    as_name: Annotated[str | None, typer.Option("--as", help="Read the folder as this corpus.")] = None,
    max_bad: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest share of unusable files.")] = 0.05,
) -> None:
    """Decode a corpus, compute its features once, show its split."""
    from ser_platform.tuning.display import Display
    from ser_platform.tuning.pipeline import Plan, prepare_corpus

    out = console()
    prepared = prepare_corpus(Plan([], corpus, as_name, max_bad=max_bad), Display(out))
    split = prepared.split
    rows = [[part, str(len(rows)), ", ".join(split.speakers(part))] for part, rows in split.parts.items()]
    out.print(table(f"Split {split.fingerprint[:12]}, protocol {split.protocol}", ["part", "clips", "speakers"], rows))
