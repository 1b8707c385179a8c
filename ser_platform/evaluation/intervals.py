"""Bootstrap intervals of figures: over speakers, or over clips where there are too few speakers.

With 2 test speakers a bootstrap over speakers reports a quarter of null gains as real. With fewer than 8 speakers the
clips are resampled, and the interval is valid for these speakers only.
Source: Ferrer & Riera, "Confidence intervals for evaluation in machine learning", 2024.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ser_platform.metrics import (
    confusion_matrix,
    divide_counts,
    macro_f1_from_confusion,
    recalls,
    uar,
    uar_from_confusion,
    war,
)

MIN_SPEAKERS = 8
N_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval over `n_speakers` speakers; `over` is what was resampled, "speakers" or "clips"."""

    value: float
    low: float
    high: float
    n_speakers: int
    over: str

    @property
    def caveat(self) -> str:
        """The speakers to which the interval is limited, in words; empty where speakers were resampled."""
        if self.over == "speakers":
            return ""
        return "this speaker only" if self.n_speakers == 1 else f"these {self.n_speakers} speakers only"


class Resamples:
    """Draws of speakers or clips, with replacement; all figures that are compared use the same draws.

    Attributes:
        over: what is drawn, "speakers" or "clips".
        rng: the generator for further draws.
    """

    def __init__(self, speakers: NDArray[np.str_]) -> None:
        self.rng = np.random.default_rng(0)
        names, owner = np.unique(speakers, return_inverse=True)
        self.n_speakers = len(names)
        self.over = "speakers" if self.n_speakers >= MIN_SPEAKERS else "clips"
        self._owner = owner if self.over == "speakers" else np.arange(len(speakers))
        self._n_units = int(self._owner.max()) + 1
        self._draws = draw_counts(self.rng, self._n_units, N_RESAMPLES).astype(np.float64)

    @property
    def n_clips(self) -> NDArray[np.float64]:
        """The number of clips in each draw, `(N_RESAMPLES,)`."""
        return self.count(np.ones((len(self._owner), 1)))[:, 0]

    def count(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map values of clips `(n_clips, n_columns)` to their sums in each draw, `(N_RESAMPLES, n_columns)`."""
        by_unit = [np.bincount(self._owner, column, self._n_units) for column in values.T]
        return self._draws @ np.stack(by_unit, axis=1)

    def uars(self, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the UAR of each draw, `(N_RESAMPLES,)`, over the classes in the draw."""
        is_true = (targets[:, None] == np.unique(targets)).astype(np.float64)
        hits = self.count(is_true * (targets == predictions)[:, None])
        uars: NDArray[np.float64] = np.nanmean(divide_counts(hits, self.count(is_true)), axis=1)
        return uars

    def make_interval(self, value: float, drawn: NDArray[np.float64], level: float, least: float = 0.0) -> Interval:
        """Return the interval of a figure in [`least`, 1], given that of each draw."""
        low, high = np.clip(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]), least, 1.0)
        return Interval(value, float(low), float(high), self.n_speakers, self.over)


def draw_counts(rng: np.random.Generator, n_units: int, n_resamples: int) -> NDArray[np.int64]:
    """Return how often each unit is in a draw of `n_units` with replacement, `(n_resamples, n_units)`."""
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples)


def draw_means(rng: np.random.Generator, values: NDArray[np.float64], n_resamples: int) -> NDArray[np.float64]:
    """Return the mean of each draw of `len(values)` values with replacement, `(n_resamples,)`."""
    means: NDArray[np.float64] = rng.choice(values, (n_resamples, len(values))).mean(axis=1)
    return means


def paired_interval(
    targets: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    speakers: NDArray[np.str_],
    level: float = 0.95,
) -> Interval:
    """Return UAR of `second` minus UAR of `first` on the same clips, resampled together; in [-1, 1]."""
    resamples = Resamples(speakers)
    n_classes = int(max(targets.max(), first.max(), second.max())) + 1
    value = uar(targets, second, n_classes) - uar(targets, first, n_classes)
    drawn = resamples.uars(targets, second) - resamples.uars(targets, first)
    return resamples.make_interval(value, drawn, level, least=-1.0)


def metric_intervals(
    targets: NDArray[np.int64],
    predictions: NDArray[np.int64],
    speakers: NDArray[np.str_],
    labels: tuple[str, ...],
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return `uar`, `war`, `macro_f1` and `recall_EMOTION` of the emotions in the truth, each with its interval.

    All figures use the same draws. Recalls have Wilson's interval instead where clips are resampled, or where all
    draws agree (Wilson, "Probable inference", 1927).
    """
    resamples = Resamples(speakers)
    matrix = confusion_matrix(targets, predictions, len(labels))
    present = np.flatnonzero(matrix.sum(axis=1))
    is_true = (targets[:, None] == present).astype(np.float64)
    is_predicted = (predictions[:, None] == present).astype(np.float64)
    totals, n_predicted, hits = map(resamples.count, (is_true, is_predicted, is_true * is_predicted))
    recall = divide_counts(hits, totals)
    f1 = np.where(totals > 0, divide_counts(2 * hits, totals + n_predicted), np.nan)
    draws = {
        "uar": (uar_from_confusion(matrix), np.nanmean(recall, axis=1)),
        "war": (war(targets, predictions), hits.sum(axis=1) / resamples.n_clips),
        "macro_f1": (macro_f1_from_confusion(matrix), np.nanmean(f1, axis=1)),
    }
    values = recalls(matrix)
    for column, emotion in enumerate(present):
        draws[f"recall_{labels[emotion]}"] = (float(values[emotion]), recall[:, column])
    found = {
        name: resamples.make_interval(value, drawn[np.isfinite(drawn)], level) for name, (value, drawn) in draws.items()
    }
    # Resampling 13 hits of 13 clips gives 13 of 13 in every draw. Over clips, a recall is a share of independent draws.
    for emotion in present:
        name = f"recall_{labels[emotion]}"
        if resamples.over == "clips" or found[name].low == found[name].high:
            count = binomtest(int(matrix[emotion, emotion]), int(matrix[emotion].sum()))
            bounds = count.proportion_ci(level, method="wilson")
            found[name] = replace(found[name], low=float(bounds.low), high=float(bounds.high))
    return found
