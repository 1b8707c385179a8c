"""Trials of several folds: the dev speakers of each fold, and training in lockstep, which changes no result."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError, UserError
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.loop import Diverged
from ser_platform.tuning.execution.cross_validation import FoldTrainer, split_into_folds

CPU = torch.device("cpu")


def test_every_speaker_of_train_and_dev_is_dev_in_one_fold_and_test_stays_the_same(split: Split) -> None:
    folds = split_into_folds(split, 2)
    dev_speakers = [speaker for fold in folds for speaker in fold.speakers("dev")]
    assert sorted(dev_speakers) == sorted([*split.speakers("train"), *split.speakers("dev")])
    for fold in folds:
        assert set(fold.speakers("train")).isdisjoint(fold.speakers("dev"))
        np.testing.assert_array_equal(fold.test, split.test)


def test_one_fold_and_more_folds_than_speakers_are_refused(split: Split) -> None:
    with pytest.raises(UserError, match=r"data\.folds 1"):
        split_into_folds(split, 1)
    with pytest.raises(CorpusError, match=r"data\.folds 19: train and dev have"):
        split_into_folds(split, 19)


class Drawing:
    """A trainer whose scores are random numbers of the process's generator."""

    def __init__(self, seed: int, fails_at: int = 0) -> None:
        torch.manual_seed(seed)
        self.fails_at = fails_at

    def epochs(self, stop_after: int | None = None) -> Iterator[EpochResult]:
        for epoch in range(1, 5):
            if epoch == self.fails_at:
                raise Diverged(f"loss is nan in epoch {epoch}")
            loss, uar = torch.rand(2).tolist()
            losses = dict.fromkeys(("train_loss", "dev_loss"), loss)
            scores = dict.fromkeys(("dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar"), uar)
            yield EpochResult(epoch=epoch, **losses, **scores, best_epoch=epoch, seconds=1.0)


def makers(*seeds: int, fails_at: int = 0) -> list[Callable[[], Drawing]]:
    return [partial(Drawing, seed, fails_at if seed == seeds[-1] else 0) for seed in seeds]


def test_the_means_of_folds_in_lockstep_are_those_of_folds_one_by_one() -> None:
    alone = [list(make().epochs()) for make in makers(1, 2, 3)]
    together = list(FoldTrainer(makers(1, 2, 3), CPU).epochs(patience=9))  # type: ignore[arg-type]
    means = [float(np.mean([result.dev_uar for result in results])) for results in zip(*alone, strict=True)]
    assert [result.dev_uar for result in together] == pytest.approx(means)
    assert [result.best_dev_uar for result in together] == pytest.approx(np.maximum.accumulate(means))
    assert {result.seconds for result in together} == {3.0}


def test_patience_applies_to_the_mean_of_the_folds() -> None:
    seeds = next(n for n in range(100) if _bests(n) == [1, 1, 3, 3])  # the second epoch is worse, the third better
    assert len(list(FoldTrainer(makers(seeds, seeds + 1), CPU).epochs(patience=1))) == 2  # type: ignore[arg-type]


def _bests(seed: int) -> list[int]:
    folds = FoldTrainer(makers(seed, seed + 1), CPU)  # type: ignore[arg-type]
    return [result.best_epoch for result in folds.epochs(patience=9)]


def test_a_fold_that_diverges_ends_the_trial() -> None:
    folds = FoldTrainer(makers(1, 2, fails_at=2), CPU)  # type: ignore[arg-type]
    epochs = folds.epochs(patience=9)
    assert next(epochs).epoch == 1
    with pytest.raises(Diverged, match="epoch 2"):
        next(epochs)
