"""`kill -9` of a worker or of `ser train`: the training resumes, and no epoch is trained or logged twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch

from ser_platform.corpora.splits.split import Split
from ser_platform.settings import resolve
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.execution.fit_folder import FitFolder, run_fit
from ser_platform.tuning.execution.fit_job import FitJob, TrialData
from tests.tuning.kills import Ended, Forge

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

WORKER = "ray::RayTrainWorker"
EPOCHS, MANY_EPOCHS = 24, 100  # workers of a killed `ser train` train some epochs more


def worker_processes(of: int) -> list[psutil.Process]:
    """Return Ray Train's workers among the descendants of a process."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if WORKER in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue  # ended meanwhile
    return found


def wait_for(happened: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def test_a_killed_worker_costs_no_epoch_and_two_workers_train_as_one(split: Split, tmp_path: Path) -> None:
    from ser_platform.tuning.execution.cluster import connect_cluster
    from ser_platform.tuning.execution.distributed_fit import fit_on_team, form_team

    settings = resolve(
        {
            "model.name": "bilstm",
            "model.hidden_size": 32,
            "model.dropout": 0.0,
            "train.batch_size": 4,
            "train.epochs": EPOCHS,
            "train.patience": EPOCHS,
            "optimizer.lr": 1e-3,
        }
    )
    job = FitJob(settings, TrialData.from_split(split, split.manifest.labels), label_rows=split.test)
    folder, killed = FitFolder(tmp_path / "together"), []

    def kill_one() -> None:
        if not killed and len(folder.epoch_results) >= 2:
            processes = worker_processes(os.getpid())
            if len(processes) == 2:
                processes[1].send_signal(signal.SIGKILL)
                killed.append(len(folder.epoch_results))

    with connect_cluster():
        together = fit_on_team(job, folder, form_team(2, "cpu", settings), kill_one)
    assert killed
    assert killed[0] < EPOCHS, "a worker was killed in the middle"
    assert [result.epoch for result in together.epoch_results] == list(range(1, EPOCHS + 1))
    assert [result.epoch for result in folder.epoch_results] == list(range(1, EPOCHS + 1))
    alone = run_fit(job, FitFolder(tmp_path / "alone"), torch.device("cpu"))
    for one, two in zip(alone.epoch_results, together.epoch_results, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-3)
        assert two.dev_uar == pytest.approx(one.dev_uar, abs=0.06)  # one clip of 18 can be classified differently
    _same(together.epoch_results[:5], alone.epoch_results[:5])


def _same(results: list[EpochResult], others: list[EpochResult]) -> None:
    for result, other in zip(results, others, strict=True):
        differing = {
            name for name, value in asdict(result).items() if value != pytest.approx(asdict(other)[name], abs=1e-4)
        }
        assert differing <= {"seconds"}


class Workplace:
    """A working directory in which `ser` runs as a user would run it."""

    def __init__(self, folder: Path, corpus: Path, forge: Forge) -> None:
        self.folder, self.forge = folder, forge
        self.ser = [sys.executable, "-c", "from ser_platform.cli import main; main()"]
        small = {"model.name": "bilstm", "model.hidden_size": 16, "train.batch_size": 4}
        long = {"train.epochs": MANY_EPOCHS, "train.patience": MANY_EPOCHS}
        words = [word for name, value in (small | long).items() for word in ("--set", f"{name}={value}")]
        self.train = ["train", "student", "--corpus", str(corpus), *words]

    def run(self, *words: str) -> Ended:
        return self.forge.run(self.folder, words)

    def begin_and_kill(self, *words: str) -> int:
        """Start a training and kill it after two epochs; return the number of its epochs."""
        output = (self.folder / "output.txt").open("w")
        process = subprocess.Popen(
            [*self.ser, *self.train, *words], cwd=self.folder, env=self.forge.env, stdout=output, stderr=output
        )
        try:
            wait_for(lambda: process.poll() is not None or self.epochs() >= 2)
            assert process.poll() is None, (self.folder / "output.txt").read_text()
        finally:
            process.kill()
            process.wait()
            output.close()
        return self.epochs()

    def epochs(self) -> int:
        return max(
            (len(FitFolder(path.parent).epoch_results) for path in self.folder.glob("runs/*/*/epochs.json")), default=0
        )

    def assert_each_epoch_once(self) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        (experiment,) = (each for each in client.search_experiments() if each.name.startswith("ser-"))
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.data.tags.get("trial", "parent") for run in runs) == ["0", "parent"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        (child,) = (run for run in runs if "trial" in run.data.tags)
        for name in ("train_loss", "dev_uar"):
            steps = sorted(metric.step for metric in client.get_metric_history(child.info.run_id, name))
            assert steps == list(range(1, MANY_EPOCHS + 1))
        assert child.data.metrics["epochs"] == MANY_EPOCHS
        assert len(client.search_model_versions("name = 'ser-student'")) == 1


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["in this process", "two workers"])
def test_a_killed_training_is_resumed_by_the_same_command(
    workers: list[str], tone_corpus: Path, forge: Forge, empty_store: Path, tmp_path: Path
) -> None:
    place = Workplace(tmp_path, tone_corpus, forge)
    shutil.copy(empty_store, tmp_path)
    assert 2 <= place.begin_and_kill(*workers) < MANY_EPOCHS, "killed in the middle"
    ended = place.run(*place.train, *workers, "--resume")
    assert ended.code == 0, ended.output
    assert "continues after epoch" in ended.stdout
    assert "registered ser-student version 1" in ended.stdout
    place.assert_each_epoch_once()
    assert not [path for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")]
    again = place.run("train", "--resume")
    assert again.code == 2
    assert "nothing to resume" in again.stderr
