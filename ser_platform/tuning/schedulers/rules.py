"""Early-stopping rules: ASHA and the median rule.

A rule identifies trials by their number and can be rebuilt from their scores, so that a resumed study stops the same
trials as an uninterrupted one.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from ser_platform.tuning.search_space.space import Space

ScoreHistories = Iterable[tuple[int, Mapping[int, float]]]  # (trial, best score so far by epoch)
Rungs = dict[int, dict[int, float]]  # epoch -> trial -> the score it is compared by
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 fill [0, 1) evenly


class StoppingRule(Protocol):
    """Decides which trials stop; higher scores are better. `rungs` are the scores that it compares with."""

    rungs: Rungs

    def record_score(self, trial: int, epoch: int, score: float) -> bool:
        """Record the best score of a trial after `epoch` epochs; return whether the trial must stop."""

    def can_stop_at(self, trial: int, epoch: int) -> bool:
        """Return whether the rule can stop a trial after an epoch; if not, the trial need not wait for a decision."""

    def replay(self, histories: ScoreHistories) -> None:
        """Record the scores of earlier trials: (number, best score by epoch)."""


class NeverStop:
    """Stops nothing."""

    def __init__(self) -> None:
        self.rungs: Rungs = {}

    def record_score(self, trial: int, epoch: int, score: float) -> bool:
        return False

    def can_stop_at(self, trial: int, epoch: int) -> bool:
        return False

    def replay(self, histories: ScoreHistories) -> None:
        pass


class Asha:
    """Asynchronous successive halving (ASHA).

    Bracket `s` has its first rung at epoch `grace_epochs * reduction_factor**s`, so that some trials are compared only
    after more epochs. A trial is compared with those of its own bracket, which depends only on its number.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2; as in Ray Tune,
    a trial is stopped if its score is below the cutoff of the scores already at its rung, and the share of trials of a
    bracket with r rungs is proportional to exp(r).
    """

    def __init__(self, grace_epochs: int, reduction_factor: int, max_epochs: int, brackets: int = 1) -> None:
        self.reduction_factor = reduction_factor
        self.rungs: Rungs = {}
        milestone = grace_epochs
        while milestone < max_epochs:
            self.rungs[milestone] = {}
            milestone *= reduction_factor
        self._milestones = list(self.rungs)
        sizes = np.array([len(self._milestones) - s for s in range(min(brackets, max(len(self._milestones), 1)))])
        shares = np.exp(sizes - sizes.max())
        self._borders = np.cumsum(shares / shares.sum())[:-1]

    def assign_bracket(self, trial: int) -> int:
        """Return the bracket of a trial: the number of first rungs at which it is not compared."""
        return int(np.searchsorted(self._borders, (trial * GOLDEN_RATIO) % 1.0, side="right"))

    def record_score(self, trial: int, epoch: int, score: float) -> bool:
        if not self.can_stop_at(trial, epoch):
            return False
        cutoff = self.compute_cutoff(epoch, trial)
        self.rungs[epoch][trial] = score
        return cutoff is not None and score < cutoff

    def can_stop_at(self, trial: int, epoch: int) -> bool:
        return epoch in self._milestones[self.assign_bracket(trial) :]

    def compute_cutoff(self, milestone: int, trial: int) -> float | None:
        """Return the score that a trial must reach at a rung to be in the best `1 / reduction_factor` of the others.

        None if it is the first.
        """
        mine, rung = self.assign_bracket(trial), self.rungs[milestone]
        scores = [score for other, score in rung.items() if other != trial and self.assign_bracket(other) == mine]
        return float(np.percentile(scores, 100 * (1 - 1 / self.reduction_factor))) if scores else None

    def replay(self, histories: ScoreHistories) -> None:
        for trial, scores in histories:
            for milestone, rung in self.rungs.items():
                if milestone in scores and self.can_stop_at(trial, milestone):
                    rung[trial] = scores[milestone]


class MedianRule:
    """Stops a trial whose best score so far is below the median of the other trials' running averages at its epoch.

    It stops none in the grace epochs or after the last one.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2. Unlike
    there, a running trial counts once it has reached the epoch, because many trials start before the first ends.
    """

    def __init__(self, grace_epochs: int, max_epochs: int) -> None:
        self.grace_epochs, self.max_epochs = grace_epochs, max_epochs
        self.rungs: Rungs = {}
        self._sums: dict[int, tuple[int, float]] = {}  # trial -> (epochs, sum of its scores)

    def record_score(self, trial: int, epoch: int, score: float) -> bool:
        epochs, total = self._sums.get(trial, (0, 0.0)) if epoch > 1 else (0, 0.0)  # a restarted trial begins anew
        self._sums[trial] = (epochs + 1, total + score)
        rung = self.rungs.setdefault(epoch, {})
        others = [average for other, average in rung.items() if other != trial]
        rung[trial] = (total + score) / (epochs + 1)
        return bool(others) and self.can_stop_at(trial, epoch) and score < float(np.median(others))

    def can_stop_at(self, trial: int, epoch: int) -> bool:
        return self.grace_epochs < epoch < self.max_epochs

    def replay(self, histories: ScoreHistories) -> None:
        for trial, scores in histories:
            self._sums.pop(trial, None)
            for epoch in sorted(scores):
                self.record_score(trial, epoch, scores[epoch])


def make_stopping_rule(space: Space) -> StoppingRule:
    """Return the early-stopping rule of a space."""
    plan, epochs = space.scheduler, space.fixed_settings.train.epochs
    if plan.name == "none":
        return NeverStop()
    if plan.name == "median":
        return MedianRule(plan.grace_epochs, epochs)
    return Asha(plan.grace_epochs, plan.reduction_factor, epochs, plan.brackets)
