"""Cost of each value of an axis: by how much its mean dev UAR is below the best value's.

The other settings differ as the sampler drew them: it tries a value that scored badly with few other settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.evaluation.intervals import draw_means
from ser_platform.tuning.report.trial_table import NUMERIC, SUBSET, SearchedAxis, TrialTable

MIN_TRIALS_PER_VALUE = 3  # values with fewer trials are left out
MAX_BINS = 5  # of a numeric axis
MAX_DISTINCT_VALUES = 10  # a numeric axis with more is binned
N_RESAMPLES = 1000


@dataclass(frozen=True)
class ValueEffect:
    """The trials with one value of an axis.

    Attributes:
        place: position on the axis: the number itself, or the index of a choice.
        scores: (n_trials,) dev UAR; `mean` with its 95 % interval `low` to `high`.
        cost: by how much the mean is below the best value's, with the 95 % interval `cost_low` to `cost_high`.
    """

    label: str
    place: float
    scores: NDArray[np.float64]
    mean: float
    low: float
    high: float
    cost: float = 0.0
    cost_low: float = 0.0
    cost_high: float = 0.0


def estimate_value_effects(table: TrialTable, axis: SearchedAxis, seed: int = 0) -> tuple[ValueEffect, ...]:
    """Return the values of an axis that at least three scored trials drew, in the axis's order.

    Numbers are gathered into bins of equally many trials, labelled with their median; a set counts as one value.
    Intervals are percentiles of a bootstrap over the trials of a value.
    """
    rng = np.random.default_rng(seed)
    groups = [group for group in _group_scores(table, axis) if len(group[2]) >= MIN_TRIALS_PER_VALUE]
    if not groups:
        return ()
    drawn = [draw_means(rng, scores, N_RESAMPLES) for _, _, scores in groups]
    best = int(np.argmax([scores.mean() for _, _, scores in groups]))
    found = []
    for (label, place, scores), means in zip(groups, drawn, strict=True):
        low, high = np.percentile(means, (2.5, 97.5))
        # Bonferroni: with 95 % probability the intervals of all costs contain the true ones.
        tail = 2.5 / max(len(groups) - 1, 1)
        cost_low, cost_high = np.percentile(drawn[best] - means, (tail, 100 - tail))
        cost = groups[best][2].mean() - scores.mean()
        found.append(
            ValueEffect(label, place, scores, *map(float, (scores.mean(), low, high, cost, cost_low, cost_high)))
        )
    return tuple(found)


def summarise_axis(axis: SearchedAxis, found: Sequence[ValueEffect]) -> str:
    """Return one line: the best value, and the cost of the others in dev UAR."""
    if len(found) < 2:
        return f"{axis.name}: too few trials at each value"
    unit = f" {axis.unit}" if axis.unit else ""
    best = min(found, key=lambda level: level.cost)
    near = "near " if axis.kind == NUMERIC else ""
    worse = [level for level in found if level is not best and level.cost_low > 0]
    parts = [
        f"{level.label}{unit} is {level.cost:.3f} [{level.cost_low:.3f}, {level.cost_high:.3f}] lower"
        for level in sorted(worse, key=lambda level: -level.cost)[:3]
    ]
    same = [level for level in found if level is not best and level.cost_low <= 0]
    if same:
        parts.append(f"no clear difference to {', '.join(level.label for level in same[:6])}{unit}")
    return f"{axis.name}: best {near}{best.label}{unit} (mean dev UAR {best.mean:.3f}); " + "; ".join(parts)


def summarise_best_trials(table: TrialTable, axis: SearchedAxis) -> str:
    """Return one line: the dev UAR of the best trial with each choice, best choice first."""
    drawn = list(zip(table.list_values(axis), table.final_scores, strict=True))
    found = [(format_value(choice), [score for value, score in drawn if value == choice]) for choice in axis.values]
    ranked = sorted(((max(scores), label, len(scores)) for label, scores in found if scores), reverse=True)
    return f"{axis.name}, best trial of each: " + ", ".join(f"{label} {best:.3f} (of {n})" for best, label, n in ranked)


def _group_scores(table: TrialTable, axis: SearchedAxis) -> list[tuple[str, float, NDArray[np.float64]]]:
    drawn = zip(table.list_values(axis), table.final_scores, strict=True)
    present = [(value, score) for value, score in drawn if value is not None]
    if axis.kind == NUMERIC:
        return _group_numeric_scores(np.array([float(v) for v, _ in present]), np.array([s for _, s in present]))
    if axis.kind == SUBSET:
        named = [(format_value(value), score) for value, score in present]
        order: list[Any] = sorted({name for name, _ in named}, key=lambda name: (name.count("+"), name))
    else:
        named, order = present, list(axis.values)
    parts = [(format_value(each), np.array([score for name, score in named if name == each])) for each in order]
    return [(label, float(place), scores) for place, (label, scores) in enumerate(parts)]


def _group_numeric_scores(
    values: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[tuple[str, float, NDArray[np.float64]]]:
    distinct = np.unique(values)
    if len(distinct) <= MAX_DISTINCT_VALUES:
        return [(f"{value:g}", float(value), scores[values == value]) for value in distinct]
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(MAX_BINS, max(1, len(order) // MIN_TRIALS_PER_VALUE)))
    return [(f"{np.median(values[part]):.2g}", float(np.median(values[part])), scores[part]) for part in parts]


def format_value(value: Any) -> str:
    """Return a setting's value as text: 3 significant digits, members of a set joined by +."""
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
