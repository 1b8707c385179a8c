"""A training run in a folder goes on from its last checkpoint, and ends as if it had never stopped."""

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
    """Stands for a kill: nothing after it is done."""


@pytest.fixture
def job(split: Split) -> Callable[..., FitJob]:
    def make(**changes: object) -> FitJob:
        settings: Settings = resolve(QUICK | {name.replace("__", "."): value for name, value in changes.items()})
        return FitJob(settings, TrialData.from_split(split, split.manifest.labels), label_rows=split.test)

    return make


def killed_in(epoch: int) -> Callable[[EpochResult], None]:
    def told(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise Killed

    return told


def assert_same(fit: FitResult, other: FitResult) -> None:
    def plain(results: list[EpochResult]) -> list[dict]:
        return [asdict(result) | {"seconds": 0} for result in results]

    assert plain(fit.epoch_results) == plain(other.epoch_results)
    np.testing.assert_array_equal(fit.label_logits, other.label_logits)
    assert fit.state.keys() == other.state.keys()
    assert all(torch.equal(value, other.state[name]) for name, value in fit.state.items())


@pytest.mark.parametrize("every", [1, 2, 10])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(job, tmp_path: Path, every: int) -> None:
    asked = job(train__checkpoint_every=every)
    whole = run_fit(asked, FitFolder(tmp_path / "whole"), CPU)
    cut = FitFolder(tmp_path / "cut")
    with pytest.raises(Killed):
        run_fit(asked, cut, CPU, on_epoch=killed_in(4))
    assert cut.checkpoint_epoch == 3 // every * every
    told: list[int] = []
    assert_same(run_fit(asked, cut, CPU, on_epoch=lambda result: told.append(result.epoch)), whole)
    assert told == list(range(3 // every * every + 1, 6))
    assert [result.epoch for result in cut.epoch_results] == [1, 2, 3, 4, 5]


def test_what_a_run_gave_is_read_back_and_its_checkpoint_is_gone(job, tmp_path: Path) -> None:
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
    asked = job(model__name="tree", features__pool="mean_std", train__epochs=1, train__checkpoint_every=1)
    fit = run_fit(asked, folder, CPU)
    assert folder.fit_result is not None
    assert_same(folder.fit_result, fit)


def test_a_run_that_is_asked_to_stop_ends_after_its_epoch(job, tmp_path: Path) -> None:
    folder = FitFolder(tmp_path / "run")
    fit = run_fit(
        job(), folder, CPU, SINGLE_WORKER, lambda result: folder.request_stop() if result.epoch == 2 else None
    )
    assert [result.epoch for result in fit.epoch_results] == [1, 2]


def test_why_a_run_cannot_go_on_is_told_until_it_is_tried_again(tmp_path: Path) -> None:
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


def test_a_run_starts_from_the_weights_that_it_is_given(job, tmp_path: Path) -> None:
    first = run_fit(job(), FitFolder(tmp_path / "first"), CPU)
    asked = job(train__epochs=1, optimizer__lr=1e-7)
    begun = FitJob(asked.settings, asked.data, asked.label_rows, initial_state=first.state)
    second = run_fit(begun, FitFolder(tmp_path / "second"), CPU)
    for name, value in first.state.items():
        torch.testing.assert_close(second.state[name], value, atol=1e-5, rtol=0)
