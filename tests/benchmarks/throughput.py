"""Study throughput: the same fixed trials three ways in one run, on two slots.

    python -m tests.benchmarks.throughput [--json] [--publish] [--trials N] [--peer FILE] [--ways NAME ...]

A student of 28 thousand parameters on EmoDB, at most 20 epochs, successive halving with grace 3 and factor 4. The
documented way is `docs_way.py`, unchanged: Ray's and MLflow's documentation in one file; it is left out where neither
--peer nor SER_PEERS names it. Plain Optuna has two processes, each of which reads the features once. Walls
run from before Ray or Optuna are imported to the last logged run; which trials a rule stops depends on their order, so
seconds are also given per epoch trained. Efficiency is epochs trained x the seconds of an epoch on one slot alone, over
wall x slots; the platform's wall then runs, as a study's, from before the cluster's start. The floor is the training
alone, on all slots.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.ways import SLOTS, TASK, documented_way, prepare, run_way

PEERS = "SER_PEERS"  # the folder of docs_way.py
NAMES = ("platform", "optuna", "documented")


def measure(folder: Path, names: list[str], peer: Path | None) -> dict[str, Any]:
    """Run the ways in turn; return each one's figures, and what they come to."""
    os.environ[TASK] = str(folder / "task.npz")
    alone = run_way("alone", folder)["epoch_seconds"]
    rows = [_row(name, folder, peer) for name in names]
    for row in rows:
        row["seconds_per_epoch"] = row["wall_seconds"] / row["epochs"]
        study = row.get("study_seconds", row["wall_seconds"])
        row["floor_seconds"] = row["epochs"] * alone / SLOTS
        row["efficiency"] = row["floor_seconds"] / study
    by_name = {row["way"]: row for row in rows}
    ours, figures = by_name["platform"], {"platform_efficiency": by_name["platform"]["efficiency"]}
    for name, key in (("documented", "speedup_vs_documented_way"), ("optuna", "speedup_vs_optuna")):
        if name in by_name:
            figures[key] = by_name[name]["wall_seconds"] / ours["wall_seconds"]
            figures[f"{key}_per_epoch"] = by_name[name]["seconds_per_epoch"] / ours["seconds_per_epoch"]
    return {**figures, "epoch_seconds_alone": alone, "slots": SLOTS, "trials": ours["trials"], "ways": rows}


def _row(name: str, folder: Path, peer: Path | None) -> dict[str, Any]:
    return run_way(name, folder) if name != "documented" or peer is None else documented_way(folder, peer.resolve())


def table(result: dict[str, Any]) -> Table:
    """Return the figures for people."""
    shown = Table(title=f"{result['trials']} trials; an epoch alone takes {result['epoch_seconds_alone']:.3f} s")
    for column in ("way", "wall s", "floor s", "epochs", "s an epoch", "efficiency", "best dev UAR"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for row in result["ways"]:
        figures = (f"{row['wall_seconds']:.1f}", f"{row['floor_seconds']:.1f}", str(row["epochs"]))
        shares = (f"{row['seconds_per_epoch']:.3f}", f"{row['efficiency']:.2f}", f"{row['best']:.3f}")
        shown.add_row(row["way"], *figures, *shares)
    return shown


def main() -> None:
    """Run the ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/throughput.json")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--corpus", default="emodb")
    folder = os.environ.get(PEERS)
    peer = Path(folder) / "docs_way.py" if folder else None
    parser.add_argument("--peer", type=Path, default=peer, help=f"docs_way.py; its folder can be {PEERS}")
    parser.add_argument("--ways", nargs="+", choices=NAMES, default=list(NAMES), help="platform is always among them")
    options = parser.parse_args()
    names = [name for name in NAMES if name == "platform" or name in options.ways]
    if options.peer is None and "documented" in names:
        names.remove("documented")
        print(f"documented is left out: name docs_way.py with --peer or {PEERS}", file=sys.stderr)
    elif "documented" in names and not options.peer.is_file():
        raise SystemExit(f"--peer {options.peer}: no such file; name docs_way.py, or leave documented out of --ways")
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), options.corpus, options.trials)
        result = measure(Path(scratch), names, options.peer)
    if not options.json:
        Console(width=100).print(table(result))
    if options.publish:
        path = Path(__file__).parent / "results" / "throughput.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | {str(options.trials): result}, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
