"""`ser predict FOLDER` as users run it: wall and CPU seconds of a process, alone and beside busy processes.

    python -m tests.benchmarks.bulk [--json] [--publish] [--folder FOLDER] [--busy N] [--rounds N] [--against CHECKOUT]

The clips are EmoDB's under SER_CORPORA unless FOLDER is given; the model is an LSTM of a student's size with random
weights. Another checkout predicts the same clips in turn, in the same environment. The fastest round counts. CPU
seconds include the processes of the command (Linux only).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.corpus_lookup import locate_corpus
from ser_platform.settings import resolve, slots
from tests.benchmarks.predict import STUDENT_SIZES, adopt_orphans, bundle, children_cpu_s
from tests.benchmarks.published import RESULTS
from tests.benchmarks.startup import ROOT, SER

HERE, AGAINST = "this checkout", "other checkout"
SPIN = "while True: pass"


@contextlib.contextmanager
def keep_busy(processes: int) -> Iterator[set[int]]:
    """Run processes that compute until the end of the block; yield their ids."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield {process.pid for process in spinning}
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def predict(root: Path, folder: Path, model: Path, others: set[int]) -> dict[str, float]:
    """Run `ser predict` of a checkout on a folder; return its wall and CPU seconds and the number of predictions.

    `others` are the ids of children of this process that do not belong to the command.
    """
    command = [sys.executable, "-c", SER, "predict", str(folder), "--model", str(model), "--json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    cpu_before, began = children_cpu_s(), time.perf_counter()
    done = subprocess.run(  # not in the working directory, whose package would come first
        command, cwd=model.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    wall = time.perf_counter() - began
    for child in psutil.Process().children():  # the processes of the command, which end with it
        if child.pid not in others:
            os.waitpid(child.pid, 0)
    return {"wall_s": wall, "cpu_s": children_cpu_s() - cpu_before, "files": len(json.loads(done.stdout))}


def measure(checkouts: Sequence[tuple[str, Path]], folder: Path, model: Path, busy: int, rounds: int) -> dict[str, Any]:
    """Return the fastest round of each checkout, alone and beside `busy` processes, and their ratios."""
    rows: list[dict[str, Any]] = []
    for processes in (0, busy):
        found: dict[str, list[dict[str, float]]] = {name: [] for name, _ in checkouts}
        with keep_busy(processes) as others:
            for _ in range(rounds):
                for name, root in checkouts:
                    found[name].append(predict(root, folder, model, others))
        for name, each in found.items():
            best = min(each, key=lambda row: row["wall_s"])
            rows.append({"checkout": name, "busy": processes} | {key: round(value, 2) for key, value in best.items()})
    return {"cores": slots(), "rows": rows, "ratios": compare(rows)}


def compare(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the growth of CPU seconds beside busy processes, and wall seconds as a share of the other checkout's."""
    alone, beside = (
        {row["checkout"]: row for row in rows if bool(row["busy"]) == is_busy} for is_busy in (False, True)
    )
    ratios = {f"cpu_growth, {name}": beside[name]["cpu_s"] / alone[name]["cpu_s"] for name in beside}
    if AGAINST in alone:
        ratios["wall, alone"] = alone[HERE]["wall_s"] / alone[AGAINST]["wall_s"]
        ratios["wall, beside busy processes"] = beside[HERE]["wall_s"] / beside[AGAINST]["wall_s"]
    return {name: round(value, 3) for name, value in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/bulk.json")
    parser.add_argument("--folder", type=Path, default=locate_corpus("emodb"), help="of recordings")
    parser.add_argument("--busy", type=int, default=3, help="busy processes")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout of the platform to measure in turn")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("EmoDB is not under SER_CORPORA; give --folder")
    options.folder = options.folder.resolve()
    checkouts = [(HERE, ROOT)] + ([(AGAINST, options.against.resolve())] if options.against else [])
    adopt_orphans()
    with tempfile.TemporaryDirectory() as scratch:
        own = {"model.name": "bilstm", "features.sets": ["log_mel", "mfcc", "zcr", "rms"], **STUDENT_SIZES["bilstm"]}
        bundle(resolve(own), Path(scratch) / "model")
        for path in list_audio_files(options.folder):  # into the disk cache
            path.read_bytes()
        result = measure(checkouts, options.folder, Path(scratch) / "model", options.busy, options.rounds)
    if options.publish:
        (RESULTS / "bulk.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.json:
        for row in result["rows"]:
            beside = f"beside {row['busy']} busy processes" if row["busy"] else "alone"
            print(
                f"{row['checkout']:<15}{beside:<26}{row['files']:6} files{row['wall_s']:8.1f} s"
                f"{row['cpu_s']:8.1f} CPU seconds"
            )
        for name, value in result["ratios"].items():
            print(f"{name}: {value:.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
