"""A training run in a folder resumes from its last checkpoint, with the result of an uninterrupted run."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError, WorkFailed
from ser_platform.settings import Settings, resolve
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.workers import SINGLE_WORKER
from ser_platform.tuning.execution.fit_folder import FitFolder, run_fit
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData

QUICK = {"model.name": "bilstm", "model.hidden_size": 8, "train.epochs": 5, "data.max_seconds": 0.5}
CPU = torch.device("cpu")


class Killed(Exception):
    """In place of a kill."""


@pytest.fixture
def job(split: Split) -> Callable[..., FitJob]:
    def make(**changes: object) -> FitJob:
        settings: Settings = resolve(QUICK | {name.replace("__", "."): value for name, value in changes.items()})
        return FitJob(settings, TrialData.from_split(split, split.manifest.labels), label_rows=split.test)

    return make


def kill_in(epoch: int) -> Callable[[EpochResult], None]:
    def kill(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise Killed

    return kill


def assert_same(fit: FitResult, other: FitResult) -> None:
    def plain(results: list[EpochResult]) -> list[dict]:
        return [asdict(result) | {"seconds": 0} for result in results]

    assert plain(fit.epoch_results) == plain(other.epoch_results)
    np.testing.assert_array_equal(fit.label_logits, other.label_logits)
    assert fit.state.keys() == other.state.keys()
    assert all(torch.equal(value, other.state[name]) for name, value in fit.state.items())


@pytest.mark.parametrize("every", [1, 2, 10])
def test_an_interrupted_run_has_the_result_of_an_uninterrupted_one(job, tmp_path: Path, every: int) -> None:
    whole_job = job(train__checkpoint_every=every)
    whole = run_fit(whole_job, FitFolder(tmp_path / "whole"), CPU)
    cut = FitFolder(tmp_path / "cut")
    with pytest.raises(Killed):
        run_fit(whole_job, cut, CPU, on_epoch=kill_in(4))
    assert cut.checkpoint_epoch == 3 // every * every
    epochs: list[int] = []
    assert_same(run_fit(whole_job, cut, CPU, on_epoch=lambda result: epochs.append(result.epoch)), whole)
    assert epochs == list(range(3 // every * every + 1, 6))
    assert [result.epoch for result in cut.epoch_results] == [1, 2, 3, 4, 5]


def test_the_result_of_a_run_is_read_back_and_its_checkpoint_is_removed(job, tmp_path: Path) -> None:
    folder = FitFolder(tmp_path / "run")
    assert folder.fit_result is None
    fit = run_fit(job(), folder, CPU)
    assert folder.fit_result is not None
    assert_same(folder.fit_result, fit)
    np.testing.assert_array_equal(folder.fit_result.normaliser.mean, fit.normaliser.mean)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_model_that_is_fitted_at_once_saves_no_checkpoint(job, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(FitFolder, "save_checkpoint", None)  # not to be called, though one is due after every epoch
    folder = FitFolder(tmp_path / "run")
    tree_job = job(model__name="tree", features__pool="mean_std", train__epochs=1, train__checkpoint_every=1)
    fit = run_fit(tree_job, folder, CPU)
    assert folder.fit_result is not None
    assert_same(folder.fit_result, fit)


def test_a_requested_stop_ends_the_run_after_its_epoch(job, tmp_path: Path) -> None:
    folder = FitFolder(tmp_path / "run")
    fit = run_fit(
        job(), folder, CPU, SINGLE_WORKER, lambda result: folder.request_stop() if result.epoch == 2 else None
    )
    assert [result.epoch for result in fit.epoch_results] == [1, 2]


def test_the_reason_of_a_failure_is_raised_until_the_run_is_tried_again(tmp_path: Path) -> None:
    folder = FitFolder(tmp_path / "run")
    folder.raise_failure()
    folder.save_failure(WorkFailed("out of memory"))
    with pytest.raises(WorkFailed, match="out of memory"):
        folder.raise_failure()
    folder.save_failure(UserError("model.tuned_layers 40"))
    with pytest.raises(UserError, match="model.tuned_layers 40"):  # exit code 2, on workers as in this process
        folder.raise_failure()
    folder.clear_failure()
    folder.raise_failure()


def test_a_run_starts_from_the_given_weights(job, tmp_path: Path) -> None:
    first = run_fit(job(), FitFolder(tmp_path / "first"), CPU)
    short_job = job(train__epochs=1, optimizer__lr=1e-7)
    started = FitJob(short_job.settings, short_job.data, short_job.label_rows, initial_state=first.state)
    second = run_fit(started, FitFolder(tmp_path / "second"), CPU)
    for name, value in first.state.items():
        torch.testing.assert_close(second.state[name], value, atol=1e-5, rtol=0)
