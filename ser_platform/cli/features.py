"""`ser features`: what is stored, store more, check it, make room."""

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.features_show import show
from ser_platform.cli.options import DataOptions, JsonOption
from ser_platform.cli.output import console, error_console, make_table, print_json
from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.features.store.eviction import StoredFamilySummary

app = typer.Typer(
    no_args_is_help=True,
    help="Stored features: list them, extract more, check them, make room. SER_FEATURES_GB bounds what they take.",
)
app.command()(show)
DAY_S = 86_400  # seconds


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the stored families: parameters, dtype, clips, size, when they were used last."""
    from ser_platform.features.store.eviction import list_stored_families
    from ser_platform.features.store.feature_store import families_folder

    entries = [_family_as_json(stored) for stored in list_stored_families(families_folder())]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            str(entry["family"]),
            _parameters(entry["parameters"]) if entry["readable"] else "of another version; ser features gc removes it",
            str(entry["dtype"] or "-"),
            f"{entry['clips']}",
            f"{entry['bytes'] / 1e6:.1f} MB",
            str(entry["last_used"] or "-").replace("T", " "),
        ]
        for entry in entries
    ]
    total = sum(entry["bytes"] for entry in entries) / 1e9
    title = f"Stored features: {total:.2f} GB in {families_folder()}"
    console().print(make_table(title, ["family", "parameters", "dtype", "clips", "size", "last used"], rows))


def _family_as_json(stored: "StoredFamilySummary") -> dict[str, Any]:
    last = (
        None if stored.accessed_at is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(stored.accessed_at))
    )
    return {
        "family": stored.about.get("family", stored.folder.name.split("-")[0]),
        "kind": stored.about.get("kind"),
        "version": stored.about.get("version"),
        "parameters": stored.about.get("parameters", {}),
        "dtype": stored.dtype or None,
        "clips": stored.n_clips,
        "bytes": stored.n_bytes,
        "last_used": last,
        "readable": stored.is_readable,
        "path": str(stored.folder),
    }


def _parameters(parameters: dict[str, Any]) -> str:
    """Return parameters in a line; those of an inner part in brackets."""
    parts = []
    for name, value in parameters.items():
        if isinstance(value, dict):
            parts.append(f"{name}({_parameters(value)})")
        elif isinstance(value, list):
            parts.append(f"{name}[{len(value)}]")
        else:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


@app.command()
def extract(
    corpus: Annotated[str, typer.Argument(help="Name or folder; several: ravdess+emodb.")],
    sets: Annotated[
        str | None, typer.Option(metavar="A,B", help="Which feature sets; default: the usual ones.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or float16: half the size, numbers of 3 digits.")] = "float32",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; default: one a core where that pays, Ray tasks where RAY_ADDRESS is set."),
    ] = None,
    as_name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Read the folder as this corpus.")] = None,
    max_bad: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest share of unusable files.")] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Compute and store feature sets of a corpus; what is stored is not computed again. A kill costs seconds of work.

    Example: ser features extract ravdess --sets log_mel,f0
    """
    from ser_platform.features.dataset import DEFAULT_FEATURE_SETS, DataRequest, prepare_speech
    from ser_platform.features.store.extraction import make_local_mapper
    from ser_platform.progress import Display
    from ser_platform.tuning.execution.remote_extraction import choose_mapper

    names = _names(sets) or DEFAULT_FEATURE_SETS
    request = DataRequest(DataOptions(as_name).corpus_request(corpus), max_bad=max_bad)
    display = Display(error_console() if as_json else console())
    chosen = choose_mapper() if jobs is None else make_local_mapper(jobs)
    speech = prepare_speech(request, display, names=names, mapper=chosen, dtype=dtype)
    if as_json:
        content = {"corpus": speech.name, "clips": len(speech.manifest), "decoded": speech.n_decoded}
        print_json({**content, "sets": list(names), "dtype": dtype, "seconds": round(speech.elapsed_s, 3)})
        return
    display.print_line(
        f"{speech.name}: {', '.join(names)} of {len(speech.manifest)} clips are stored; {speech.n_decoded} files "
        f"decoded in {speech.elapsed_s:.1f} s"
    )


def _names(sets: str | None) -> tuple[str, ...]:
    """Return the sets that `--sets` names, none where it was not given.

    Raises:
        UserError: it was given, and names none.
    """
    names = tuple(name.strip() for name in (sets or "").split(",") if name.strip())
    if sets is not None and not names:
        raise UserError(f"--sets {sets!r} names no feature set; write them with commas, like log_mel,f0")
    return names


@app.command()
def verify(
    sets: Annotated[str | None, typer.Option(metavar="A,B", help="Which feature sets; default: all.")] = None,
) -> None:
    """Read all stored features and compare them with their digests; what was altered is dropped."""
    from ser_platform.features.store.feature_store import verify_store as check

    n_bytes = check(_names(sets) or None)
    console().print(f"{n_bytes / 1e9:.2f} GB of stored features are what was written", highlight=False)


@app.command()
def gc(
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0.0, help="Remove what nobody used for so many days.")
    ] = None,
    to: Annotated[
        float | None, typer.Option(metavar="GB", min=0.0, help="Remove the least recently used down to this size.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be freed, remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove leftovers of killed runs and stores of other versions, and with an option what was not used of late.

    What another live process has open stays.
    """
    from ser_platform.features.store.eviction import GIGABYTE, collect_garbage, measure_store_size
    from ser_platform.features.store.feature_store import families_folder

    root = families_folder()
    to_bytes = math.inf if to is None else to * GIGABYTE
    before = -math.inf if older_than is None else time.time() - older_than * DAY_S
    freed = collect_garbage(root, to_bytes, before, dry_run)
    left = measure_store_size(root) - (freed if dry_run else 0)
    if as_json:
        print_json({"freed_bytes": freed, "left_bytes": left, "dry_run": dry_run})
        return
    verb = "would be freed" if dry_run else "freed"
    console().print(f"{freed / 1e6:.1f} MB {verb}, {left / 1e6:.1f} MB left in {root}", highlight=False)
