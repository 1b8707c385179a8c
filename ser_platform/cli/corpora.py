"""`ser corpora`: list, fetch, check and prepare corpora."""

from typing import TYPE_CHECKING, Any

import typer

from ser_platform.cli import doctor, fetch
from ser_platform.cli.options import CorpusArgument, DataOptions, JsonOption, add_data_options, format_examples
from ser_platform.cli.output import make_console, make_display, print_json, print_table

if TYPE_CHECKING:
    from ser_platform.corpora.splits.split import Split

app = typer.Typer(no_args_is_help=True, help="List corpora, download one, check it for problems, prepare it.")
MAX_NAMED_SPEAKERS = 8  # in a table's cell; more are counted


@app.command("list", epilog=format_examples("ser corpora list", "ser corpora list --json"))
def list_(as_json: JsonOption = False) -> None:
    """List the corpora: language, size, licence, and the folder or how to get it."""
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
            "found" if entry["path"] else "-",
        ]
        for entry in entries
    ]
    print_table("Corpora", ["name", "language", "classes", "speakers", "clips", "licence", "state"], rows)
    out = make_console()
    for entry in entries:
        if entry["path"]:
            out.print(f"{entry['name']}: {entry['path']}", soft_wrap=True)
    out.print("demo is made on first use; ser corpora fetch NAME downloads another one, or states how to get it")


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


app.command(epilog=fetch.EXAMPLES)(fetch.fetch)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)


@app.command(
    epilog=format_examples(
        "ser corpora prepare ravdess", "ser corpora prepare ravdess+emodb --labels 6 --protocol speaker_kfold:5"
    )
)
@add_data_options
def prepare(corpus: CorpusArgument = "", as_json: JsonOption = False, *, data: DataOptions) -> None:
    """Decode the new and changed files of a corpus, compute its features, print its split."""
    from ser_platform.features.dataset import prepare_dataset

    splits = prepare_dataset(data.data_request(corpus), make_display(as_json=as_json)).splits
    if as_json:
        print_json([_split_as_json(split) for split in splits])
        return
    for split in splits:
        _print_split(split)


def _split_as_json(split: "Split") -> dict[str, Any]:
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
        named = ", ".join(speakers) if len(speakers) <= MAX_NAMED_SPEAKERS else f"{len(speakers)} speakers"
        counts = [str(count) for count in part["emotions"].values()]
        rows.append([part["part"], str(part["clips"]), f"{part['minutes']:.1f}", *counts, named])
    title = f"Split {split.fingerprint[:12]}, protocol {split.protocol_stamp}"
    print_table(title, ["part", "clips", "minutes", *split.manifest.labels, "speakers"], rows)
