"""What tracking adds to a study: its wall with MLflow (SQLite) against the same study without, in turn, on two slots.

    python -m tests.benchmarks.tracking [--json] [--publish] [--trials N] [--rounds N]

Every trial runs all of its epochs, so that both do the same work. Walls run from before the cluster's start to the last
logged run; the median ratio of the rounds counts. Goal: 3 % at most.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import RESULTS
from tests.benchmarks.ways import TASK, UNTRACKED, WHOLE, prepare, run_way

GOAL = 0.03


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Run the study with and without tracking, in turn, the other first in every second round."""
    os.environ |= {TASK: str(folder / "task.npz"), WHOLE: "1"}
    walls: dict[str, list[float]] = {"tracked": [], "untracked": []}
    for number in range(rounds):
        for name in sorted(walls, reverse=bool(number % 2)):
            os.environ.pop(UNTRACKED, None)
            if name == "untracked":
                os.environ[UNTRACKED] = "1"
            walls[name].append(run_way("platform", folder)["study_seconds"])
    ratios = [on / off for on, off in zip(walls["tracked"], walls["untracked"], strict=True)]
    return {"added": statistics.median(ratios) - 1, "goal": GOAL, "wall_seconds": walls, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/tracking.json")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), "emodb", options.trials)
        result = measure(Path(scratch), options.rounds)
    if options.publish:
        (RESULTS / "tracking.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.json:
        print(f"tracking adds {100 * result['added']:.1f} % to a study's wall (goal {100 * GOAL:.0f} %)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
