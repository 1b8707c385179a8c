"""Asynchronous successive halving: which trials go on after a rung.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2; like Ray Tune, a
trial is stopped when its score is below the cutoff of the scores already at its rung. Trials go by their number in
the study and rungs are rebuilt from its history, so a resumed study stops the same trials as an undisturbed one.
"""

from collections.abc import Iterable, Mapping

import numpy as np


class Asha:
    """The rungs of a study; scores are maximised."""

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

    def cutoff(self, milestone: int) -> float | None:
        """Return the score that the best `1 / reduction_factor` of a rung's trials reach, None before the first."""
        scores = list(self.rungs[milestone].values())
        return float(np.percentile(scores, 100 * (1 - 1 / self.reduction_factor))) if scores else None

    def replay(self, histories: Iterable[tuple[int, Mapping[int, float]]]) -> None:
        """Fill the rungs from earlier trials: (number, best score by epoch)."""
        for trial, scores in histories:
            for milestone, rung in self.rungs.items():
                if milestone in scores:
                    rung[trial] = scores[milestone]
