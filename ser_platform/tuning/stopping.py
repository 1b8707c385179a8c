"""Early stopping: which trials go on. A rule knows trials by their number in the study and is rebuilt from its history.

So a resumed study stops the same trials as an undisturbed one.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from ser_platform.tuning.space import Space

Histories = Iterable[tuple[int, Mapping[int, float]]]  # (trial, best score so far by epoch)


class Stopping(Protocol):
    """A rule that stops trials; scores are maximised."""

    def stops(self, trial: int, epoch: int, score: float) -> bool:
        """Record the best score of a trial after `epoch` epochs; tell whether the trial is to be stopped."""

    def decides_at(self, trial: int, epoch: int) -> bool:
        """Tell whether a trial can be stopped after an epoch: where not, it need not wait for an answer."""

    def replay(self, histories: Histories) -> None:
        """Take over the scores of earlier trials."""


class Never:
    """Stops nothing."""

    def stops(self, trial: int, epoch: int, score: float) -> bool:
        return False

    def decides_at(self, trial: int, epoch: int) -> bool:
        return False

    def replay(self, histories: Histories) -> None:
        """Do nothing."""


class Asha:
    """Asynchronous successive halving: the rungs of a study.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2; like Ray Tune,
    a trial is stopped when its score is below the cutoff of the scores already at its rung.
    """

    def __init__(self, grace_epochs: int, reduction_factor: int, max_epochs: int) -> None:
        self.reduction_factor = reduction_factor
        self.rungs: dict[int, dict[int, float]] = {}
        milestone = grace_epochs
        while milestone < max_epochs:
            self.rungs[milestone] = {}
            milestone *= reduction_factor

    def stops(self, trial: int, epoch: int, score: float) -> bool:
        """Record the score of a trial after `epoch` epochs; tell whether the trial is to be stopped."""
        rung = self.rungs.get(epoch)
        if rung is None or trial in rung:
            return False
        cutoff = self.cutoff(epoch)
        rung[trial] = score
        return cutoff is not None and score < cutoff

    def decides_at(self, trial: int, epoch: int) -> bool:
        """Tell whether a trial can be stopped after an epoch."""
        return epoch in self.rungs

    def cutoff(self, milestone: int) -> float | None:
        """Return the score that the best `1 / reduction_factor` of a rung's trials reach, None before the first."""
        scores = list(self.rungs[milestone].values())
        return float(np.percentile(scores, 100 * (1 - 1 / self.reduction_factor))) if scores else None

    def replay(self, histories: Histories) -> None:
        """Fill the rungs from earlier trials: (number, best score by epoch)."""
        for trial, scores in histories:
            for milestone, rung in self.rungs.items():
                if milestone in scores:
                    rung[trial] = scores[milestone]


def make_stopping(space: Space) -> Stopping:
    """Return the rule of a space."""
    plan = space.scheduler
    if plan.name == "none":
        return Never()
    return Asha(plan.grace_epochs, plan.reduction_factor, space.fixed("train.epochs"))
