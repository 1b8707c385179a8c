"""The gain in UAR of one way of training (an arm) over another, over the same clips and several seeds of each.

Speakers and seeds are resampled together: a gain is proven where its interval is above 0. With fewer than
`intervals.MIN_SPEAKERS` speakers, clips are resampled, and no gain is proven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from ser_platform.evaluation.intervals import N_RESAMPLES, Interval, Resamples
from ser_platform.metrics import uar

MIN_SEEDS = 3


@dataclass(frozen=True)
class ArmComparison:
    """The UAR of two arms on the same clips, in [0, 1], and the gain: the second minus the first, in [-1, 1]."""

    first: Interval
    second: Interval
    gain: Interval
    n_seeds: int

    @property
    def is_proven(self) -> bool:
        """Whether the interval of the gain is above 0, over enough speakers and seeds."""
        return self.gain.low > 0 and self.gain.over == "speakers" and self.n_seeds >= MIN_SEEDS

    @property
    def verdict(self) -> str:
        """The gain with its interval in points of UAR, and what it proves, in words."""
        interval = f"{100 * self.gain.value:+.1f} UAR [{100 * self.gain.low:+.1f}, {100 * self.gain.high:+.1f}]"
        if self.n_seeds < MIN_SEEDS:
            return f"{interval}: proves nothing, {self.n_seeds} seeds an arm are fewer than {MIN_SEEDS}"
        if self.gain.over != "speakers":
            return f"{interval}: proves nothing, {self.gain.caveat}"
        if self.gain.low > 0:
            return f"{interval}: a gain"
        return f"{interval}: a loss" if self.gain.high < 0 else f"{interval}: no sure gain, the interval holds 0"


def compare_arms(
    targets: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    speakers: NDArray[np.str_],
    level: float = 0.95,
) -> ArmComparison:
    """Compare two arms by their UAR, the mean over seeds.

    Args:
        targets: classes, `(n_clips,)`.
        first, second: predicted classes, `(n_seeds, n_clips)`, seeds in the same order.
        speakers: `(n_clips,)`.
    """
    resamples = _SeededResamples(speakers, len(first))
    one, two = (resamples.mean_uars(targets, arm) for arm in (first, second))
    whole = [_mean_uar(targets, arm) for arm in (first, second)]
    return ArmComparison(
        first=resamples.make_interval(whole[0], one, level),
        second=resamples.make_interval(whole[1], two, level),
        gain=resamples.make_interval(whole[1] - whole[0], two - one, level, least=-1.0),
        n_seeds=len(first),
    )


def seeded_interval(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], speakers: NDArray[np.str_], level: float = 0.95
) -> Interval:
    """Return the mean UAR of predictions `(n_seeds, n_clips)`, resampled over speakers and seeds."""
    resamples = _SeededResamples(speakers, len(predictions))
    return resamples.make_interval(_mean_uar(targets, predictions), resamples.mean_uars(targets, predictions), level)


class _SeededResamples(Resamples):
    """Draws of speakers or clips, and of seeds; all arms that are compared use the same draws."""

    def __init__(self, speakers: NDArray[np.str_], n_seeds: int) -> None:
        super().__init__(speakers)
        self._seeds = self.rng.integers(0, n_seeds, (N_RESAMPLES, n_seeds))

    def mean_uars(self, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean UAR of each draw, `(N_RESAMPLES,)`, of predictions `(n_seeds, n_clips)`.

        The seed correction can move a draw outside of [0, 1]; `make_interval` clips the bounds.
        """
        found = np.stack([self.uars(targets, row) for row in predictions], axis=1)
        middle = found.mean(axis=1)
        drawn: NDArray[np.float64] = np.take_along_axis(found, self._seeds, axis=1).mean(axis=1)
        widened: NDArray[np.float64] = middle + _compute_seed_factor(len(predictions)) * (drawn - middle)
        return widened


def _compute_seed_factor(n_seeds: int) -> float:
    """Return the factor that widens the spread of draws over few seeds.

    A resampled mean of n values has (n - 1) / n of the variance of the mean, and follows Student's distribution, not
    the normal one. Without the correction, with three seeds and no other variation, one null gain in eight seems real.
    """
    if n_seeds < 2:
        return 1.0
    return float(student.ppf(0.975, n_seeds - 1) / norm.ppf(0.975) * np.sqrt(n_seeds / (n_seeds - 1)))


def _mean_uar(targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Return the mean UAR over predictions `(n_seeds, n_clips)`."""
    n_classes = int(max(targets.max(), predictions.max())) + 1
    return float(np.mean([uar(targets, row, n_classes) for row in predictions]))


def measure_agreement(one: NDArray[np.int64], others: Sequence[NDArray[np.int64]]) -> float:
    """Return the share of clips with the same prediction in `one` and in each of `others`, `(n_clips,)`, on average."""
    return float(np.mean([np.mean(one == other) for other in others]))
