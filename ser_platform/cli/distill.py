"""`ser distill outputs`: what teachers said, and is kept."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.options import JsonOption
from ser_platform.cli.output import console, make_table, print_json

if TYPE_CHECKING:
    from ser_platform.distillation.outputs import StoredOutputs

app = typer.Typer(no_args_is_help=True, help="What students learn from.")
outputs = typer.Typer(
    no_args_is_help=True,
    help="Teacher outputs that are kept: logits of clips, under all that they depend on. Studies compute what lacks.",
)
app.add_typer(outputs, name="outputs")
DAY_S = 86_400  # seconds


@outputs.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the kept outputs: of which teacher, of how many clips, when they were used last."""
    from ser_platform.distillation.outputs import list_outputs, outputs_folder

    entries = [_outputs_as_json(kept) for kept in list_outputs()]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            (entry["teacher"] or "-") if entry["readable"] else "damaged; ser distill outputs gc removes it",
            str(entry["digest"])[:12],
            str(entry["model"]),
            str(entry["kind"]),
            str(entry["heard"]),
            str(entry["clips"]),
            f"{entry['bytes'] / 1e3:.0f} kB",
            entry["last_used"].replace("T", " "),
        ]
        for entry in entries
    ]
    columns = ["teacher", "digest", "model", "kind", "clips heard", "clips labelled", "size", "last used"]
    total = sum(entry["bytes"] for entry in entries) / 1e6
    console().print(make_table(f"Teacher outputs: {total:.1f} MB in {outputs_folder()}", columns, rows))


def _outputs_as_json(kept: "StoredOutputs") -> dict[str, Any]:
    about = kept.description
    return {
        "teacher": about.get("title", ""),
        "digest": kept.teacher_digest,
        "model": about.get("model", "-"),
        "kind": about.get("kind", "-"),
        "heard": int(about.get("heard", 0)),
        "clips": kept.n_clips,
        "emotions": about.get("emotions", "").split(),
        "bytes": kept.size_bytes,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(kept.used_at)),
        "readable": kept.is_readable,
        "path": str(kept.path),
    }


@outputs.command()
def gc(
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0.0, help="Remove what no study used for so many days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be freed, remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove damaged files and leftovers of killed runs, and with an option what was not used of late.

    What is removed is computed again when a study needs it.
    """
    from ser_platform.distillation.outputs import list_outputs, outputs_folder

    now = time.time()
    before = 0.0 if older_than is None else now - older_than * DAY_S
    kept = list_outputs()
    unwanted = [each for each in kept if not each.is_readable or each.used_at < before]
    freed, left = (sum(each.size_bytes for each in part) for part in (unwanted, kept))
    if not dry_run:
        torn = (path for path in outputs_folder().glob(".*.safetensors") if path.stat().st_mtime < now - DAY_S)
        for path in (*(each.path for each in unwanted), *torn):
            path.unlink(missing_ok=True)
    if as_json:
        print_json({"freed_bytes": freed, "left_bytes": left - freed, "files": len(unwanted), "dry_run": dry_run})
        return
    verb = "would be freed" if dry_run else "freed"
    console().print(
        f"{freed / 1e6:.1f} MB in {len(unwanted)} files {verb}, {(left - freed) / 1e6:.1f} MB left in "
        f"{outputs_folder()}",
        highlight=False,
    )
