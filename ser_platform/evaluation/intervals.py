"""How sure a UAR is: bootstrap intervals over speakers, or over clips where there are too few speakers.

With 2 test speakers a speaker bootstrap calls a quarter of null gains real, so below 8 the clips are resampled and
the interval speaks of these speakers only. Source: Ferrer & Riera, "Confidence intervals for evaluation in machine
learning", 2024.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ser_platform.metrics import confusion_matrix, macro_f1_from_confusion, recalls, uar, uar_from_confusion, war

MIN_SPEAKERS = 8
N_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; `n_speakers` is who was heard, `over` what was resampled ("speakers" or "clips")."""

    value: float
    low: float
    high: float
    n_speakers: int
    over: str

    @property
    def caveat(self) -> str:
        """What the interval does not cover, in words; empty where speakers were resampled."""
        if self.over == "speakers":
            return ""
        return "this speaker only" if self.n_speakers == 1 else f"these {self.n_speakers} speakers only"


def paired_interval(
    targets: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    speakers: NDArray[np.str_],
    level: float = 0.95,
) -> Interval:
    """Return UAR of `second` minus UAR of `first` on the same clips, resampled together; in [-1, 1]."""
    weights, over = _weights(speakers)
    n_classes = int(max(targets.max(), first.max(), second.max())) + 1
    value = uar(targets, second, n_classes) - uar(targets, first, n_classes)
    return _interval(value, _uars(targets, second, weights) - _uars(targets, first, weights), level, speakers, over)


def metric_intervals(
    targets: NDArray[np.int64],
    predictions: NDArray[np.int64],
    speakers: NDArray[np.str_],
    labels: tuple[str, ...],
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return `uar`, `war`, `macro_f1` and `recall_EMOTION` of the emotions in the truth, each with its interval.

    All are resampled together, so they belong to the same draws. Recalls have Wilson's interval instead where clips
    are resampled, or where all draws agree (Wilson, "Probable inference", 1927).
    """
    weights, over = _weights(speakers)
    matrix = confusion_matrix(targets, predictions, len(labels))
    present = np.flatnonzero(matrix.sum(axis=1))
    is_true = (targets[:, None] == present).astype(np.float64)
    is_predicted = (predictions[:, None] == present).astype(np.float64)
    totals, n_predicted, hits = weights @ is_true, weights @ is_predicted, weights @ (is_true * is_predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(totals > 0, hits / totals, np.nan)
        f1 = np.where(totals > 0, 2 * hits / (totals + n_predicted), np.nan)
    draws = {
        "uar": (uar_from_confusion(matrix), np.nanmean(recall, axis=1)),
        "war": (war(targets, predictions), hits.sum(axis=1) / weights.sum(axis=1)),
        "macro_f1": (macro_f1_from_confusion(matrix), np.nanmean(f1, axis=1)),
    }
    values = recalls(matrix)
    for column, emotion in enumerate(present):
        draws[f"recall_{labels[emotion]}"] = (float(values[emotion]), recall[:, column])
    found = {
        name: _interval(value, drawn[np.isfinite(drawn)], level, speakers, over)
        for name, (value, drawn) in draws.items()
    }
    # Redrawing 13 of 13 gives 13 of 13 for ever. With clips a recall is a share of independent draws anyway.
    for emotion in present:
        name = f"recall_{labels[emotion]}"
        if over == "clips" or found[name].low == found[name].high:
            count = binomtest(int(matrix[emotion, emotion]), int(matrix[emotion].sum()))
            bounds = count.proportion_ci(level, method="wilson")
            found[name] = replace(found[name], low=float(bounds.low), high=float(bounds.high))
    return found


def _weights(speakers: NDArray[np.str_], seed: int = 0) -> tuple[NDArray[np.float64], str]:
    """Return how often each clip is drawn, `(RESAMPLES, n_clips)`."""
    rng = np.random.default_rng(seed)
    names, owner = np.unique(speakers, return_inverse=True)
    if len(names) >= MIN_SPEAKERS:
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_RESAMPLES)
        return drawn[:, owner].astype(np.float64), "speakers"
    return rng.multinomial(len(owner), np.full(len(owner), 1 / len(owner)), size=N_RESAMPLES).astype(
        np.float64
    ), "clips"


def _uars(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    classes = np.unique(targets)
    member = (targets[:, None] == classes).astype(np.float64)
    correct = member * (targets == predictions)[:, None]
    totals, hits = weights @ member, weights @ correct
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(np.where(totals > 0, hits / totals, np.nan), axis=1)


def _interval(
    value: float, resampled: NDArray[np.float64], level: float, speakers: NDArray[np.str_], over: str
) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(np.unique(speakers)), over)
