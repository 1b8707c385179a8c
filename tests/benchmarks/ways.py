"""Three ways to run the same trials: as Ray's documentation shows it, by plain Optuna, and by the platform.

    python -m tests.benchmarks.ways optuna|platform FOLDER

`FOLDER` holds `task.npz` and `configs.json`, see `prepare`. Prints JSON as the last line. `load` and `train` are what
all ways train by; the documented way names them to `docs_way.py`. Each clock starts before Ray or Optuna are imported.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TASK = "SER_BENCHMARK_TASK"  # the variable that names task.npz: workers inherit it
UNTRACKED, WHOLE = "SER_BENCHMARK_UNTRACKED", "SER_BENCHMARK_WHOLE"  # no MLflow; no trial is stopped early
EPOCHS, SLOTS = 20, 2
GRACE, FACTOR = 3, 4  # the documented way's scheduler: its grace, and Ray Tune's default factor
METRIC = "best_dev_uar"
BASE = {
    "model.name": "attention_bilstm",
    "model.hidden_size": 32,
    "train.epochs": EPOCHS,
    "train.patience": EPOCHS,  # the scheduler alone stops trials
}


def configurations(n_trials: int) -> list[dict[str, Any]]:
    """Return fixed configurations of one student, which differ in what changes its score and not its cost."""
    rng = np.random.default_rng(0)
    return [
        {
            "optimizer.lr": float(10 ** rng.uniform(-4, -2)),
            "optimizer.weight_decay": float(10 ** rng.uniform(-4, -1)),
            "model.dropout": float(rng.uniform(0.1, 0.5)),
            "train.label_smoothing": float(rng.uniform(0.0, 0.2)),
            "seed": number,
        }
        for number in range(n_trials)
    ]


def prepare(folder: Path, corpus: str, n_trials: int) -> None:
    """Store the features of a corpus; write the task and the configurations into `folder`."""
    from rich.console import Console

    from ser_platform.corpora.corpus_lookup import CorpusRequest
    from ser_platform.features.dataset import DataRequest, prepare_dataset
    from ser_platform.progress import Display

    display = Display(Console(stderr=True))
    prepared = prepare_dataset(DataRequest(CorpusRequest(corpus)), display, require_one_split=True, names=["log_mel"])
    split, labels = prepared.split, prepared.labels
    np.savez(
        folder / "task.npz",
        hashes=np.array(prepared.hashes),
        speakers=np.array(split.manifest.column("speaker"), dtype=str),
        targets=split.manifest.encode_targets(labels),
        labels=np.array(labels),
        train=split.train,
        dev=split.dev,
    )
    (folder / "configs.json").write_text(json.dumps(configurations(n_trials)))


def load() -> Any:
    """Return the task, its features opened from disk."""
    from ser_platform.tuning.execution.fit_job import TrialData

    with np.load(os.environ[TASK]) as stored:
        hashes, labels, speakers = (tuple(stored[name].tolist()) for name in ("hashes", "labels", "speakers"))
        rows = {name: stored[name] for name in ("targets", "train", "dev")}
        return TrialData(hashes=hashes, labels=labels, speakers=speakers, **rows)


def train(config: dict[str, Any], data: Any, epochs: int) -> Iterator[dict[str, Any]]:
    """Yield each epoch's result of one configuration: the training loop of the platform, as its own trials run it."""
    from dataclasses import asdict

    from ser_platform.distillation.student_loss import make_student_loss
    from ser_platform.settings import resolve
    from ser_platform.training.trainers import make_trainer
    from ser_platform.tuning.execution.fit_job import prepare_process

    settings = resolve({**BASE, **config, "train.epochs": epochs})
    for result in make_trainer(settings, data.data(settings), make_student_loss, prepare_process(0.0)).epochs():
        yield asdict(result)


def epoch_alone() -> float:
    """Return the median seconds of an epoch on one slot, the others idle."""
    seconds = [result["seconds"] for result in train(configurations(1)[0], load(), EPOCHS)]
    return float(np.median(seconds))


def documented_way(folder: Path, peer: Path) -> dict[str, Any]:
    """Run `docs_way.py`, unchanged."""
    module = "tests.benchmarks.ways"
    words = ["--train", f"{module}:train", "--load", f"{module}:load", "--configs", str(folder / "configs.json")]
    words += ["--metric", METRIC, "--epochs", str(EPOCHS), "--slots", str(SLOTS), "--asha"]
    return _last_line([sys.executable, str(peer), *words, "--out", str(folder / "documented")], folder)


def run_way(name: str, folder: Path) -> dict[str, Any]:
    """Run one of the other ways in a process of its own."""
    return _last_line([sys.executable, "-m", "tests.benchmarks.ways", name, str(folder)], folder)


def _last_line(command: list[str], folder: Path) -> dict[str, Any]:
    root = str(Path(__file__).parents[2])
    own = {TASK: str(folder / "task.npz"), "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, env=os.environ | own, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


class Untracked:
    """Where nobody looks."""

    def start_trial(self, number: int, settings: Any) -> None:
        """Nothing."""

    def log_epoch(self, number: int, result: Any) -> None:
        """Nothing."""

    def end_trial(self, number: int, state: str, metrics: Any, reason: str) -> None:
        """Nothing."""

    def is_run_whole(self, number: int) -> bool:
        """Everything that is to be shown is."""
        return True

    def close(self) -> None:
        """Nothing."""


def platform_way(folder: Path) -> dict[str, Any]:
    """Run the trials by the platform's search: recorder, journal, Tune, MLflow."""
    configs = json.loads((folder / "configs.json").read_text())
    began = time.time()
    from ser_platform.tracking.mlflow_store import find_or_create_experiment, open_client
    from ser_platform.tuning.execution.cluster import connect_cluster
    from ser_platform.tuning.execution.tune_adapter import (
        search,  # which imports torch, Ray and Optuna, as ser tune has before
    )
    from ser_platform.tuning.search_space.space import Axis, Budget, SchedulerPlan, Space
    from ser_platform.workflows.run_study import StudyRecorder, StudyRuns, make_sampler, make_trial_tags
    from tests.tuning.study_folders import create_study_folder

    client = open_client()  # before the cluster's start, as ser tune does
    experiment, imported = find_or_create_experiment(client, "throughput"), time.time()
    with connect_cluster() as where:
        started = time.time()
        axes = tuple(
            Axis(name, "choice", tuple(dict.fromkeys(config[name] for config in configs)), None, {})
            for name in configs[0]
        )
        stops = SchedulerPlan("none") if WHOLE in os.environ else SchedulerPlan("asha", GRACE, FACTOR)
        budget = Budget(len(configs))
        space = Space("throughput", "student", BASE, axes, budget=budget, scheduler=stops)
        study = create_study_folder("throughput", role="student", corpus="emodb")
        tracked = UNTRACKED not in os.environ
        runs = StudyRuns(client, experiment, study.name, {}, make_trial_tags, study.path) if tracked else Untracked()
        trials = study.open_study(make_sampler(space, n_existing=0))
        for config in configs:
            trials.enqueue_trial(config)
        task = load()
        recorder = StudyRecorder(space, trials, len(task.labels), runs)
        searching = time.time()
        search(recorder, [task], where, study)
        records = recorder.rank_candidates()
        searched = time.time()
        runs.close()
        wall = time.time() - began
    return {
        "way": "platform",
        "trials": len(recorder.records),
        "errors": recorder.state_counts["failed"],
        "epochs": sum(len(record.scores_by_epoch) for record in recorder.records.values()),
        "wall_seconds": wall,
        "study_seconds": began + wall - imported,
        "training_seconds": sum(sum(record.epoch_seconds) for record in recorder.records.values()),
        "best": records[0].best_dev_uar,
        "parts": {
            "imports": imported - began,
            "cluster": started - imported,
            "opening": searching - started,
            "search": searched - searching,
            "closing": began + wall - searched,
        },
    }


def optuna_way(folder: Path) -> dict[str, Any]:
    """Run the trials by Optuna in one process a slot: a journal, its own pruner, MLflow as its callback logs."""
    configs = json.loads((folder / "configs.json").read_text())
    began = time.time()
    import optuna
    from mlflow import MlflowClient

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=_journal(folder), study_name="plain", direction="maximize")
    for number in range(len(configs)):
        study.enqueue_trial({"number": number})
    MlflowClient(_plain_store(folder)).create_experiment("plain")  # before the fan-out: its migrations exclude others
    command = [sys.executable, "-m", "tests.benchmarks.ways", "worker", str(folder)]
    workers = [subprocess.Popen(command) for _ in range(SLOTS)]
    if max(worker.wait() for worker in workers):
        raise SystemExit("a process of plain Optuna failed")
    trials = study.get_trials()
    wall = time.time() - began
    epochs = [value for trial in trials for value in trial.user_attrs["seconds"]]
    return {
        "way": "optuna",
        "trials": len(trials),
        "errors": sum(trial.state == optuna.trial.TrialState.FAIL for trial in trials),
        "epochs": len(epochs),
        "wall_seconds": wall,
        "training_seconds": sum(epochs),
        "best": max(value for trial in trials for value in trial.intermediate_values.values()),
    }


def optuna_worker(folder: Path) -> None:
    """Take trials of the study until none is left: what a process of `optuna_way` does."""
    import mlflow
    import optuna

    configs = json.loads((folder / "configs.json").read_text())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(_plain_store(folder))
    mlflow.set_experiment("plain")
    data = load()

    def objective(trial: optuna.Trial) -> float:
        config = configs[trial.suggest_int("number", 0, len(configs) - 1)]
        seconds: list[float] = []
        best = 0.0
        with mlflow.start_run(run_name=str(trial.number)):
            mlflow.log_params(config)
            for result in train(config, data, EPOCHS):
                seconds.append(result["seconds"])
                trial.set_user_attr("seconds", seconds)
                best = result[METRIC]
                figures = {name: value for name, value in result.items() if name != "epoch"}
                mlflow.log_metrics(figures, step=result["epoch"])
                trial.report(best, result["epoch"])
                if trial.should_prune():
                    raise optuna.TrialPruned
        return best

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=FACTOR)
    study = optuna.load_study(storage=_journal(folder), study_name="plain", pruner=pruner)
    waiting = (optuna.trial.TrialState.WAITING,)
    while study.get_trials(deepcopy=False, states=waiting):
        study.optimize(objective, n_trials=1)


def _journal(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "plain.log")))


def _plain_store(folder: Path) -> str:
    return f"sqlite:///{folder}/plain.db"


WAYS = {"platform": platform_way, "optuna": optuna_way}


def main() -> None:
    """Run one way in this process and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=[*WAYS, "worker", "alone"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.way == "worker":
        optuna_worker(options.folder)
    elif options.way == "alone":
        print(json.dumps({"epoch_seconds": epoch_alone()}))
    else:
        print(json.dumps(WAYS[options.way](options.folder)))


if __name__ == "__main__":
    main()
