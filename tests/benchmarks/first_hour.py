"""The phases of `ser tune` on the demo, as a new user runs it: an empty SER_HOME, an empty working directory.

    python -m tests.benchmarks.first_hour [--json] [--publish] [--against CHECKOUT] [-- OPTIONS OF ser tune]

The times come from what the command prints and from what it writes into `runs/`, so that any checkout can be measured.
Another checkout runs after this one, in the same environment. Seconds are wall time; CPU seconds include all processes
(Linux only).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ser_platform.files import read_json
from ser_platform.tuning.study.study_folder import StudyFolder
from tests.benchmarks.bulk import AGAINST, HERE
from tests.benchmarks.predict import adopt_orphans, children_cpu_s
from tests.benchmarks.published import RESULTS
from tests.benchmarks.startup import ROOT, SER

POLL_S = 0.2  # seconds between two readings of `runs/`
TEACHER_ROW = re.compile(r"teacher.*\b0\.\d{3} \[")  # the teacher's test UAR with its interval


class Monitor:
    """Notes when a study of a folder reaches a stage, in seconds since 1970."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.seen: dict[str, dict[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._note()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self._note()

    def _note(self) -> None:
        for path in self.runs.glob("*/study.json"):
            stages, summary = self.seen.setdefault(path.parent.name, {}), read_json(path)
            reached = {
                "begun": True,
                "searched": any(ended for _, ended in summary.get("searches", ())),
                "confirmed": "confirmed" in summary,
                "finished": summary["state"] == "finished",
                "reported": (path.parent / "report" / "index.html").exists(),
                "compared": bool(summary.get("control")),
            }
            for stage, is_reached in reached.items():
                if is_reached:
                    stages.setdefault(stage, time.time())


def run(root: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run `ser tune` of a checkout in an empty folder; return its phases in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        environment = os.environ | {
            "SER_HOME": str(folder / "home"),
            "PYTHONPATH": str(root),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        cpu_before, began = children_cpu_s(), time.time()
        process = subprocess.Popen(
            [sys.executable, "-c", SER, "tune", *options],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        monitor, lines = Monitor(folder / "runs"), []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.time(), line))
        total = time.time() - began
        monitor.close()
        if process.wait() != 0:
            raise SystemExit("".join(line for _, line in lines[-20:]))
        for child in psutil.Process().children():
            child.wait(60)
        studies = [StudyFolder(folder / "runs" / name) for name in monitor.seen]
        row = next((at for at, line in lines if TEACHER_ROW.search(line)), began + total)
        return {
            "first_line": lines[0][0] - began,
            **summarise_studies(studies, monitor.seen, began),
            "teacher_row": row - began,
            "total": total,
            "cpu_seconds": children_cpu_s() - cpu_before,
        }


def summarise_studies(
    studies: Sequence[StudyFolder], seen: Mapping[str, Mapping[str, float]], began: float
) -> dict[str, float]:
    """Return the seconds of the phases of each study by `ROLE: PHASE`, and of the control; `began` is the start."""
    found: dict[str, float] = {}
    starts = [trial.datetime_start for study in studies for trial in study.read_trials()]
    found["first_trial"] = min(start.timestamp() for start in starts if start) - began
    for study in studies:
        summary, at = study.summary, seen[study.name]
        name = study.name.partition("-")[0]
        found |= {
            f"{name}: before its search": max(0.0, summary["searches"][0][0] - at["begun"]),
            f"{name}: search": study.searched_seconds,
            f"{name}: timing and confirmation": at["confirmed"] - at["searched"],
            f"{name}: test and registration": at["finished"] - at["confirmed"],
            f"{name}: report": max(0.0, at["reported"] - at["finished"]),
            f"{name}: finished at": at["finished"] - began,
            f"{name}: efficiency": summary["metrics"].get("platform_efficiency", float("nan")),
        }
        found |= {f"{name}: {phase}": ended - start for phase, start, ended in summary.get("phases", ())}
    if compared := [at["compared"] for at in seen.values() if "compared" in at]:
        found["control folds"] = max(compared) - max(at["finished"] for at in seen.values())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/first_hour.json")
    parser.add_argument("--against", type=Path, help="another checkout of the platform to measure after this one")
    parser.add_argument("options", nargs="*", help="options of `ser tune`, after --")
    options = parser.parse_args()
    adopt_orphans()
    checkouts = [(HERE, ROOT)] + ([(AGAINST, options.against.resolve())] if options.against else [])
    result: dict[str, Any] = {}
    for name, root in checkouts:
        phases = run(root, options.options)
        result[name] = {phase: round(value, 2) for phase, value in phases.items()}
    if AGAINST in result:
        here, there = result[HERE], result[AGAINST]
        result["total_ratio"] = round(here["total"] / there["total"], 3)
        result["teacher_row_to_total"] = round(here["teacher_row"] / there["total"], 3)
    if options.publish:
        (RESULTS / "first_hour.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.json:
        names = list(dict.fromkeys(phase for name, _ in checkouts for phase in result[name]))
        print(f"{'seconds':<62}" + "".join(f"{name:>16}" for name, _ in checkouts))
        for phase in names:
            cells = (f"{result[name][phase]:16.2f}" if phase in result[name] else f"{'-':>16}" for name, _ in checkouts)
            print(f"{phase:<62}" + "".join(cells))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
