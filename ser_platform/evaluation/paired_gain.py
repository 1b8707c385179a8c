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

from ser_platform.evaluation.intervals import MIN_SPEAKERS, N_RESAMPLES, Interval

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
    draws = _Draws(targets, speakers, len(first))
    one, two = draws.uars(first), draws.uars(second)
    whole = [np.mean([_uar(targets, row) for row in arm]) for arm in (first, second)]
    return ArmComparison(
        draws.interval(float(whole[0]), one, level),
        draws.interval(float(whole[1]), two, level),
        draws.interval(float(whole[1] - whole[0]), two - one, level, least=-1.0),
        len(first),
    )


def seeded_interval(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], speakers: NDArray[np.str_], level: float = 0.95
) -> Interval:
    """Return the mean UAR of predictions `(seeds, n_clips)`, resampled over speakers and seeds."""
    draws = _Draws(targets, speakers, len(predictions))
    value = float(np.mean([_uar(targets, row) for row in predictions]))
    return draws.interval(value, draws.uars(predictions), level)


class _Draws:
    """The same draws of speakers, or clips, and of seeds, for all that is compared."""

    def __init__(self, targets: NDArray[np.int64], speakers: NDArray[np.str_], n_seeds: int) -> None:
        rng = np.random.default_rng(0)
        names, owner = np.unique(speakers, return_inverse=True)
        self.n_speakers, self._targets = len(names), targets
        self.over = "speakers" if len(names) >= MIN_SPEAKERS else "clips"
        self._owner = owner if self.over == "speakers" else np.arange(len(targets))
        n_units = int(self._owner.max()) + 1
        self._weights = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=N_RESAMPLES).astype(np.float64)
        self._seeds = rng.integers(0, n_seeds, (N_RESAMPLES, n_seeds))
        self._classes = np.unique(targets)
        self._totals = self._weights @ self._by_unit(np.ones(len(targets)))

    def uars(self, predictions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean UAR of each draw, `(RESAMPLES,)`; a class that is not in a draw is left out of it."""
        found = np.empty((N_RESAMPLES, len(predictions)))
        for seed, row in enumerate(predictions):
            hits = self._weights @ self._by_unit((row == self._targets).astype(np.float64))
            with np.errstate(invalid="ignore", divide="ignore"):
                found[:, seed] = np.nanmean(np.where(self._totals > 0, hits / self._totals, np.nan), axis=1)
        middle = found.mean(axis=1)
        drawn: NDArray[np.float64] = np.take_along_axis(found, self._seeds, axis=1).mean(axis=1)
        return middle + _seed_correction(len(predictions)) * (drawn - middle)

    def interval(self, value: float, drawn: NDArray[np.float64], level: float, least: float = 0.0) -> Interval:
        """Return the interval of drawn figures; stretched draws may lie beyond what the figure can be, it does not."""
        low, high = np.clip(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]), least, 1.0)
        return Interval(value, float(low), float(high), self.n_speakers, self.over)

    def _by_unit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of a value a clip over each unit's clips of each class, `(n_units, n_classes)`."""
        columns = [
            np.bincount(self._owner, values * (self._targets == label), self._weights.shape[1])
            for label in self._classes
        ]
        return np.stack(columns, axis=1)


def _seed_correction(n_seeds: int) -> float:
    """Return by how much draws of so few seeds are too close together.

    A resampled mean of n has (n - 1) / n of the variance that it should have, and is no normal variable but Student's:
    of three seeds a plain bootstrap calls one null gain in eight real where seeds are all that varies.
    """
    if n_seeds < 2:
        return 1.0
    return float(student.ppf(0.975, n_seeds - 1) / norm.ppf(0.975) * np.sqrt(n_seeds / (n_seeds - 1)))


def _uar(targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    return float(np.mean([np.mean(predictions[targets == label] == label) for label in np.unique(targets)]))


def agreement(one: NDArray[np.int64], others: Sequence[NDArray[np.int64]]) -> float:
    """Return the share of clips on which predictions agree with `one`, the mean over `others`."""
    return float(np.mean([np.mean(one == other) for other in others]))
