"""`ser features`: list, extract, verify and remove stored features."""

import math
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli import features_show
from ser_platform.cli.options import (
    DAY_S,
    CorpusArgument,
    DataOptions,
    DryRunOption,
    JsonOption,
    OlderThanOption,
    add_options,
    format_examples,
)
from ser_platform.cli.output import make_console, make_display, print_json, print_table
from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.features.store.eviction import StoredFamilySummary

app = typer.Typer(
    no_args_is_help=True,
    help="Stored features: list, extract, verify or remove them. SER_FEATURES_GB limits their size in gigabytes.",
)
app.command(epilog=features_show.EXAMPLES)(features_show.show)


@app.command("list", epilog=format_examples("ser features list", "ser features list --json"))
def list_(as_json: JsonOption = False) -> None:
    """List the stored feature families: parameters, dtype, number of clips, size and last use."""
    from ser_platform.features.store.eviction import list_stored_families
    from ser_platform.features.store.folders import families_folder

    entries = [_family_as_json(stored) for stored in list_stored_families(families_folder())]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            str(entry["family"]),
            _format_parameters(entry["parameters"])
            if entry["readable"]
            else "of another version; ser features gc removes it",
            str(entry["dtype"] or "-"),
            f"{entry['clips']}",
            f"{entry['bytes'] / 1e6:.1f} MB",
            str(entry["last_used"] or "-").replace("T", " "),
        ]
        for entry in entries
    ]
    total = sum(entry["bytes"] for entry in entries) / 1e9
    title = f"Stored features: {total:.2f} GB in {families_folder()}"
    print_table(title, ["family", "parameters", "dtype", "clips", "size", "last used"], rows)


def _family_as_json(stored: "StoredFamilySummary") -> dict[str, Any]:
    used_at = stored.accessed_at
    return {
        "family": stored.about.get("family", stored.folder.name.split("-")[0]),
        "kind": stored.about.get("kind"),
        "version": stored.about.get("version"),
        "parameters": stored.about.get("parameters", {}),
        "dtype": stored.dtype or None,
        "clips": stored.n_clips,
        "bytes": stored.n_bytes,
        "last_used": None if used_at is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(used_at)),
        "readable": stored.is_readable,
        "path": str(stored.folder),
    }


def _format_parameters(parameters: dict[str, Any]) -> str:
    """Return parameters in one line; nested ones are in brackets."""
    parts = []
    for name, value in parameters.items():
        if isinstance(value, dict):
            parts.append(f"{name}({_format_parameters(value)})")
        elif isinstance(value, list):
            parts.append(f"{name}[{len(value)}]")
        else:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


@app.command(
    epilog=format_examples("ser features extract ravdess", "ser features extract ravdess --sets log_mel,f0 --jobs 4")
)
@add_options("as_name", "max_bad")
def extract(
    corpus: CorpusArgument,
    sets: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Feature sets to compute; default: log_mel, mfcc, zcr, rms and waveform."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or float16: half the size, with about 3 significant digits.")
    ] = "float32",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of processes; default: up to one for each CPU core, or Ray tasks if RAY_ADDRESS is set."
        ),
    ] = None,
    as_json: JsonOption = False,
    *,
    data: DataOptions,
) -> None:
    """Compute the feature sets of a corpus that are not stored yet, and store them."""
    from ser_platform.features.dataset import DEFAULT_FEATURE_SETS, DataRequest, prepare_speech
    from ser_platform.features.store.extraction import make_local_mapper
    from ser_platform.tuning.execution.remote_extraction import choose_mapper

    names = _parse_sets(sets) or DEFAULT_FEATURE_SETS
    request = DataRequest(data.corpus_request(corpus), max_bad=data.max_bad)
    display = make_display(as_json=as_json)
    mapper = choose_mapper() if jobs is None else make_local_mapper(jobs)
    speech = prepare_speech(request, display, names=names, mapper=mapper, dtype=dtype)
    if as_json:
        content = {"corpus": speech.name, "clips": len(speech.manifest), "decoded": speech.n_decoded}
        print_json({**content, "sets": list(names), "dtype": dtype, "seconds": round(speech.elapsed_s, 3)})
        return
    display.print_line(
        f"{speech.name}: {', '.join(names)} of {len(speech.manifest)} clips are stored; {speech.n_decoded} files "
        f"decoded in {speech.elapsed_s:.1f} s"
    )


def _parse_sets(sets: str | None) -> tuple[str, ...]:
    """Return the names in `--sets`, none where it is not given.

    Raises:
        UserError: it is given without a name.
    """
    names = tuple(name.strip() for name in (sets or "").split(",") if name.strip())
    if sets is not None and not names:
        raise UserError(f"--sets {sets!r} names no feature set; separate names by commas, like log_mel,f0")
    return names


@app.command(epilog=format_examples("ser features verify", "ser features verify --sets log_mel,f0"))
def verify(
    sets: Annotated[str | None, typer.Option(metavar="A,B", help="Feature sets to verify; default: all.")] = None,
) -> None:
    """Compare all stored features with their digests, and remove altered ones."""
    from ser_platform.features.store.feature_store import verify_store

    n_bytes = verify_store(_parse_sets(sets) or None)
    make_console().print(f"{n_bytes / 1e9:.2f} GB of stored features agree with their digests")


@app.command(epilog=format_examples("ser features gc --dry-run", "ser features gc --older-than 30 --to 10"))
def gc(
    older_than: OlderThanOption = None,
    to: Annotated[
        float | None,
        typer.Option(metavar="GB", min=0.0, help="Also remove the least recently used features until GB are left."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove unfinished files of killed runs and stores of other versions; files open in another process stay."""
    from ser_platform.features.store.eviction import GIGABYTE, collect_garbage, measure_store_size
    from ser_platform.features.store.folders import families_folder

    root = families_folder()
    to_bytes = math.inf if to is None else to * GIGABYTE
    before = -math.inf if older_than is None else time.time() - older_than * DAY_S
    freed = collect_garbage(root, to_bytes, before, dry_run)
    left = measure_store_size(root) - (freed if dry_run else 0)
    if as_json:
        print_json({"freed_bytes": freed, "left_bytes": left, "dry_run": dry_run})
        return
    verb = "would be freed" if dry_run else "freed"
    make_console().print(f"{freed / 1e6:.1f} MB {verb}, {left / 1e6:.1f} MB left in {root}")
