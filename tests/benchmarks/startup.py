"""CPU seconds until a command that trains nothing has answered, beside the imports that bound them.

    python -m tests.benchmarks.startup [--json] [--publish] [--rounds N] [--root CHECKOUT]

Every process runs once in each round, in turn; the median of the rounds counts, user and system time together. Floors:
`import torch`, and MLflow's own client on an SQLite store that exists. `models list` cannot be faster than the second.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.published import RESULTS

ROOT = Path(__file__).resolve().parents[2]
SER = "import sys; from ser_platform.cli import main; sys.argv[0] = 'ser'; main()"
CLIENT = (
    "from mlflow import MlflowClient; client = MlflowClient('sqlite:///mlflow.db', 'sqlite:///mlflow.db'); "
    "client.search_experiments(max_results=1), client.search_registered_models()"
)
FLOORS = {"import torch": [sys.executable, "-c", "import torch"], "MlflowClient": [sys.executable, "-c", CLIENT]}
VERBS = (
    "--help",
    "--version",
    "tune --list",
    "corpora list",
    "features list",
    "studies list",
    "tune nowhere",
    "tune --set model.nme=3",
    "tune broken.yaml",
    "models list",
)


def measure_cpu(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Return the user and system seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(root: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the median CPU seconds of each floor and of each verb of the checkout at `root`."""
    (folder / "broken.yaml").write_text("role: student\nspace:\n  optimizer.lr: {choice: [slow]}\n", encoding="utf-8")
    environment = {**os.environ, "SER_HOME": str(folder / "home"), "PYTHONPATH": str(root)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    verbs = {f"ser {verb}": [sys.executable, "-c", SER, *verb.split()] for verb in VERBS}
    commands = FLOORS | verbs
    measure_cpu(verbs["ser models list"], folder, environment)  # creates the store
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(measure_cpu(command, folder, environment))
    seconds = {name: round(statistics.median(each), 3) for name, each in found.items()}
    return {
        "cpu_seconds": seconds,
        "models_list_to_client": round(seconds["ser models list"] / seconds["MlflowClient"], 3),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/startup.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout of the platform to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options.root.resolve(), Path(scratch), options.rounds)
    if options.publish:
        (RESULTS / "startup.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.json:
        for name, seconds in result["cpu_seconds"].items():
            print(f"{seconds:6.2f} s  {name}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
