"""`ser distill outputs`: the stored outputs of teachers."""

import time
from typing import TYPE_CHECKING, Any

import typer

from ser_platform.cli.options import DAY_S, DryRunOption, JsonOption, OlderThanOption, format_examples
from ser_platform.cli.output import make_console, print_json, print_table

if TYPE_CHECKING:
    from ser_platform.distillation.outputs import StoredOutputs

app = typer.Typer(no_args_is_help=True, help="Stored teacher outputs (logits), the targets of distillation.")
outputs = typer.Typer(no_args_is_help=True, help="List or remove stored teacher outputs (logits of clips).")
app.add_typer(outputs, name="outputs")


@outputs.command("list", epilog=format_examples("ser distill outputs list", "ser distill outputs list --json"))
def list_(as_json: JsonOption = False) -> None:
    """List the stored outputs: their teacher, number of clips, size and last use."""
    from ser_platform.distillation.outputs import list_outputs, outputs_folder

    entries = [_outputs_as_json(stored) for stored in list_outputs()]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            (entry["teacher"] or "-") if entry["readable"] else "damaged",
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
    columns = ["teacher", "digest", "model", "kind", "clips trained on", "clips labelled", "size", "last used"]
    total = sum(entry["bytes"] for entry in entries) / 1e6
    print_table(f"Teacher outputs: {total:.1f} MB in {outputs_folder()}", columns, rows)
    if not all(entry["readable"] for entry in entries):
        make_console().print("damaged outputs are removed by: ser distill outputs gc")


def _outputs_as_json(stored: "StoredOutputs") -> dict[str, Any]:
    about = stored.description
    return {
        "teacher": about.get("title", ""),
        "digest": stored.teacher_digest,
        "model": about.get("model", "-"),
        "kind": about.get("kind", "-"),
        "heard": int(about.get("heard", 0)),
        "clips": stored.n_clips,
        "emotions": about.get("emotions", "").split(),
        "bytes": stored.size_bytes,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(stored.used_at)),
        "readable": stored.is_readable,
        "path": str(stored.path),
    }


@outputs.command(epilog=format_examples("ser distill outputs gc", "ser distill outputs gc --older-than 30 --dry-run"))
def gc(older_than: OlderThanOption = None, dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Remove damaged files and unfinished files of killed runs; a study computes removed outputs again."""
    from ser_platform.distillation.outputs import list_outputs, outputs_folder

    now = time.time()
    before = 0.0 if older_than is None else now - older_than * DAY_S
    stored = list_outputs()
    unwanted = [each for each in stored if not each.is_readable or each.used_at < before]
    freed, total = (sum(each.size_bytes for each in part) for part in (unwanted, stored))
    if not dry_run:
        torn = (path for path in outputs_folder().glob(".*.safetensors") if path.stat().st_mtime < now - DAY_S)
        for path in (*(each.path for each in unwanted), *torn):
            path.unlink(missing_ok=True)
    if as_json:
        print_json({"freed_bytes": freed, "left_bytes": total - freed, "files": len(unwanted), "dry_run": dry_run})
        return
    verb = "would be freed" if dry_run else "freed"
    make_console().print(
        f"{freed / 1e6:.1f} MB in {len(unwanted)} files {verb}, {(total - freed) / 1e6:.1f} MB left in "
        f"{outputs_folder()}"
    )
