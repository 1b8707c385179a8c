"""Studies killed at random moments: after one `ser tune --resume` nothing is lost and nothing is there twice.

    python -m tests.benchmarks.kills [--times N] [--seed S] [--alone] [--json]

Each study is killed at the n-th write of a kind, n drawn by the seed. Prints a table, then JSON as the last line.
`--alone` trains in the process that is killed, without Ray: quicker, and the same is written down.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.conftest import speak_tones
from tests.tuning.kills import MOMENTS, Forge, Workplace, assert_nothing_is_lost

LATEST = {"journal": 90, "mlflow": 25, "registry": 4, "file": 15}  # writes that a study of this size surely makes


def measure(times: int, seed: int, scratch: Path, forge: Forge, *, alone: bool) -> list[dict[str, object]]:
    """Kill and resume `times` studies; return a row each."""
    rng, rows = random.Random(seed), []
    corpus = speak_tones(scratch / "tones")
    for number in range(times):
        moment = MOMENTS[number % len(MOMENTS)]
        at = rng.randint(1, LATEST[moment])
        place, began = Workplace(scratch / f"place-{number}", corpus, forge, alone=alone), time.monotonic()
        killed = place.run_until_killed(moment, at, *place.tune)
        problem = ""
        try:
            place.resume()
            assert_nothing_is_lost(place)
        except (AssertionError, ValueError, KeyError) as error:
            problem = str(error).strip().partition("\n")[0] or type(error).__name__
        seconds = round(time.monotonic() - began, 1)
        rows.append({"moment": moment, "write": at, "killed": killed, "problem": problem, "seconds": seconds})
        print(*rows[-1].values(), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="without Ray")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Forge(Path(scratch) / "home") as forge:
        rows = measure(options.times, options.seed, Path(scratch), forge, alone=options.alone)
    if not options.json:
        table = Table(*rows[0], title="Killed and resumed")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)
    lost = sum(bool(row["problem"]) for row in rows)
    print(json.dumps({"times": len(rows), "killed": sum(bool(row["killed"]) for row in rows), "lost": lost}))


if __name__ == "__main__":
    main()
