"""What a trial costs beside its training: thousands of empty trials, journal and tracking on.

    python -m tests.benchmarks.overhead [--json] [--publish] [--trials N] [--a-run N]

A trial of one epoch that returns at once, drawn by a random sampler over six axes, by the platform's own search: the
study's recorder, Optuna's journal, Ray Tune's actors on two slots, a run in MLflow's SQLite each. A trial's
milliseconds are those between the ends of it and of the one before. The tracker is behind by the seconds that its queue
takes at the end.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.tune import Trainable
from ray.tune.result import DONE

from ser_platform.tracking.mlflow_store import find_or_create_experiment, open_client
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.execution import tune_adapter
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.samplers.factory import make_sampler
from ser_platform.tuning.search_space.space import Axis, Budget, SamplerPlan, SchedulerPlan, Space
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.workflows.run_study import make_trial_tags
from tests.tuning.study_folders import create_study_folder

TRIALS, SLOTS, THOUSAND = 10_000, 2, 1000
AXES = (
    Axis("optimizer.lr", "loguniform", (1e-4, 1e-2), None, {}),
    Axis("optimizer.weight_decay", "loguniform", (1e-4, 1e-1), None, {}),
    Axis("model.dropout", "uniform", (0.1, 0.5), None, {}),
    Axis("model.hidden_size", "choice", (16, 32, 64), None, {}),
    Axis("train.label_smoothing", "uniform", (0.0, 0.2), None, {}),
    Axis("seed", "int", (0, 10**6), None, {}),
)
BASE = {"model.name": "attention_bilstm", "train.epochs": 1}
SCORES = dict.fromkeys(("dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar"), 0.5)
EPOCH = vars(EpochResult(epoch=1, train_loss=1.0, dev_loss=1.0, **SCORES, best_epoch=1, seconds=0.001))


class EmptyTrial(Trainable):
    """A trial that has nothing to do."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        if self.config["number"] is None:
            return {}
        return {"epochs": [EPOCH], DONE: True}


def measure(trials: int) -> dict[str, Any]:
    """Run the empty trials in the working directory; return the figures."""
    space = Space(
        "overhead",
        "student",
        BASE,
        AXES,
        budget=Budget(trials, minutes=60.0),
        sampler=SamplerPlan("random"),
        scheduler=SchedulerPlan("none"),
    )
    client, study, ends = open_client(), create_study_folder("overhead", role="student", corpus="none"), list[float]()
    runs = StudyRuns(client, find_or_create_experiment(client, "overhead"), study.name, {}, make_trial_tags)

    class Clocked(StudyRecorder):
        def finish(self, number: int, failure: str = "") -> None:
            super().finish(number, failure)
            ends.append(time.monotonic())

    with connect_cluster():
        recorder = Clocked(space, study.open_study(make_sampler(space, n_existing=0)), 7, runs)
        tune_adapter.run_trials(recorder, tune_adapter.TrialResources(EmptyTrial, {"cpu": 1.0}, SLOTS), study)
    searched = time.monotonic()
    runs.close()
    if len(runs.run_ids) != trials or recorder.state_counts["complete"] != trials:
        raise SystemExit(f"{recorder.state_counts}, {len(runs.run_ids)} runs: not {trials} trials")
    took = [1000 * (after - before) for before, after in itertools.pairwise(ends)]
    part = min(THOUSAND, len(took) // 2)
    first, last = statistics.mean(took[:part]), statistics.mean(took[-part:])
    return {
        "trials": trials,
        "ms_per_trial": statistics.median(took),
        "mean_ms_per_trial": statistics.mean(took),
        "p99_ms_per_trial": statistics.quantiles(took, n=100)[-1],
        "first_thousand_ms": first,
        "last_thousand_ms": last,
        "last_over_first_thousand": last / first,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tracker_behind_seconds": time.monotonic() - searched,
        "trials_of_a_run": tune_adapter.MAX_TRIALS_PER_RUN,
        "ms_by_thousand": [statistics.mean(each) for each in _thousands(took)],
    }


def _thousands(values: list[float]) -> Iterator[list[float]]:
    return (values[start : start + THOUSAND] for start in range(0, len(values), THOUSAND))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/overhead.json")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--a-run", type=int, default=tune_adapter.MAX_TRIALS_PER_RUN, help="trials of each Tune run")
    options = parser.parse_args()
    tune_adapter.MAX_TRIALS_PER_RUN = options.a_run
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        result = measure(options.trials)
        os.chdir(root)
    if not options.json:
        for name, value in result.items():
            print(f"{name:26} {value if isinstance(value, list) else round(value, 2)}")
    if options.publish:
        path = Path(__file__).parent / "results" / "overhead.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
