"""What one way of training gains over another: UAR pooled over all speakers, by several seeds of each, paired.

Speakers and seeds are resampled together: a gain is claimed where the interval over both lies above 0. With fewer
speakers than `MIN_SPEAKERS` clips are resampled, and nothing is proved.
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
    """Two arms on the same clips: the UAR of each, and what the second gains over the first; all are shares."""

    first: Interval
    second: Interval
    gain: Interval
    n_seeds: int

    @property
    def is_proven(self) -> bool:
        """Whether the gain is sure: its interval lies above 0, over enough speakers and seeds."""
        return self.gain.low > 0 and self.gain.over == "speakers" and self.n_seeds >= MIN_SEEDS

    @property
    def verdict(self) -> str:
        """What may be said of the gain, in words."""
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
    """Compare two arms; `first` and `second` are predicted classes `(seeds, n_clips)`, seeds in the same order.

    Of several seeds the UAR is the mean.
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
    """Return the mean UAR of predictions `(seeds, n_clips)`, resampled over speakers and seeds."""
    resamples = _SeededResamples(speakers, len(predictions))
    return resamples.make_interval(_mean_uar(targets, predictions), resamples.mean_uars(targets, predictions), level)


class _SeededResamples(Resamples):
    """The same draws of speakers, or clips, and of seeds, for all that is compared."""

    def __init__(self, speakers: NDArray[np.str_], n_seeds: int) -> None:
        super().__init__(speakers)
        self._seeds = self.rng.integers(0, n_seeds, (N_RESAMPLES, n_seeds))

    def mean_uars(self, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean UAR of each draw, `(N_RESAMPLES,)`, of predictions `(seeds, n_clips)`.

        Draws are stretched and may lie beyond what a UAR can be; `make_interval` clips its bounds.
        """
        found = np.stack([self.uars(targets, row) for row in predictions], axis=1)
        middle = found.mean(axis=1)
        drawn: NDArray[np.float64] = np.take_along_axis(found, self._seeds, axis=1).mean(axis=1)
        corrected: NDArray[np.float64] = middle + _seed_correction(len(predictions)) * (drawn - middle)
        return corrected


def _seed_correction(n_seeds: int) -> float:
    """Return by how much draws of so few seeds are too close together.

    A resampled mean of n has (n - 1) / n of the variance that it should have, and is no normal variable but Student's:
    of three seeds a plain bootstrap calls one null gain in eight real where seeds are all that varies.
    """
    if n_seeds < 2:
        return 1.0
    return float(student.ppf(0.975, n_seeds - 1) / norm.ppf(0.975) * np.sqrt(n_seeds / (n_seeds - 1)))


def _mean_uar(targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Return the mean over predictions `(seeds, n_clips)`."""
    n_classes = int(max(targets.max(), predictions.max())) + 1
    return float(np.mean([uar(targets, row, n_classes) for row in predictions]))


def agreement(one: NDArray[np.int64], others: Sequence[NDArray[np.int64]]) -> float:
    """Return the share of clips on which predictions agree with `one`, the mean over `others`."""
    return float(np.mean([np.mean(one == other) for other in others]))
