"""`ser corpora`: what there is, how to get it, is it sound, is it ready."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.doctor import doctor
from ser_platform.cli.fetch import fetch
from ser_platform.cli.options import DataOptions, JsonOption, add_data_options
from ser_platform.cli.output import console, make_table, print_json

if TYPE_CHECKING:
    from ser_platform.corpora.splits.split import Split

app = typer.Typer(no_args_is_help=True, help="Corpora: list them, fetch one, look for what would spoil it, prepare it.")
ALWAYS_THERE = ("demo", "folder")
FEW_SPEAKERS = 8  # named in a table's cell; more are counted


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the corpora: what they are, where they were found, how to get them."""
    from ser_platform.corpora.datasets import CORPORA

    entries = [_corpus_as_json(name) for name in CORPORA]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            entry["name"],
            " ".join(entry["languages"]),
            str(len(entry["emotions"]) or "any"),
            str(entry["speakers"] or "any"),
            str(entry["clips"] or "any"),
            entry["licence"],
            entry["path"] or (entry["how"] if name in ALWAYS_THERE else f"not found: {entry['how']}"),
        ]
        for name, entry in zip(CORPORA, entries, strict=True)
    ]
    columns = ["name", "language", "classes", "speakers", "clips", "licence", "where, or how to get it"]
    console().print(make_table("Corpora", columns, rows))


def _corpus_as_json(name: str) -> dict[str, Any]:
    from ser_platform.corpora.corpus_lookup import locate_corpus
    from ser_platform.corpora.datasets import CORPORA
    from ser_platform.emotions import label_set

    adapter = CORPORA[name]
    facts, path = adapter.FACTS, locate_corpus(name)
    return {
        "name": name,
        "title": facts.title,
        "languages": list(facts.languages),
        "clips": facts.clips,
        "speakers": facts.speakers,
        "emotions": list(label_set(emotion for emotion in adapter.EMOTIONS.values() if emotion)),
        "licence": facts.licence,
        "citation": facts.citation,
        "homepage": facts.homepage,
        "path": None if path is None else str(path),
        "how": f"ser corpora fetch {name}" if facts.archives else facts.how_to_get or facts.homepage,
    }


app.command()(fetch)
app.command()(doctor)


@app.command()
@add_data_options
def prepare(
    corpus: Annotated[
        str, typer.Argument(help="Name or folder; several: ravdess+emodb. cross_corpus names its own.")
    ] = "",
    as_json: JsonOption = False,
    *,
    data: DataOptions,
) -> None:
    """Decode a corpus, compute its features once, show its split.

    Only new and changed files are decoded; a kill costs seconds of work.
    """
    from ser_platform.cli.output import error_console
    from ser_platform.features.dataset import prepare_dataset
    from ser_platform.progress import Display

    out = console()
    dataset = prepare_dataset(data.data_request(corpus), Display(error_console() if as_json else out))
    if as_json:
        print_json([_split_json(split) for split in dataset.splits])
        return
    for split in dataset.splits:
        _print_split(split)


def _split_json(split: "Split") -> dict[str, Any]:
    return {
        "protocol": split.protocol_stamp,
        "fold": split.fold or None,
        "fingerprint": split.fingerprint,
        "manifest": split.manifest.fingerprint,
        "parts": split.summarise(),
        "gaps": split.missing_emotions,
    }


def _print_split(split: "Split") -> None:
    rows = []
    for part in split.summarise():
        speakers = part["speakers"]
        named = ", ".join(speakers) if len(speakers) <= FEW_SPEAKERS else f"{len(speakers)} speakers"
        counts = [str(count) for count in part["emotions"].values()]
        rows.append([part["part"], str(part["clips"]), f"{part['minutes']:.1f}", *counts, named])
    title = f"Split {split.fingerprint[:12]}, protocol {split.protocol_stamp}"
    console().print(make_table(title, ["part", "clips", "minutes", *split.manifest.labels, "speakers"], rows))
