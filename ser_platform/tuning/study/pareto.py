"""The Pareto set: the trials that no other trial beats in every objective."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ser_platform.tuning.search_space.space import Constraint, Objective

BLOCK = 256  # rows compared at once: 256 x 10,000 trials with 3 objectives take 8 MB
T = TypeVar("T")


def mark_pareto_front(values: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Mark the rows that no other row dominates.

    One row dominates another when it is at least as good in every objective and better in one. Equal rows do not
    dominate each other: all of them are in the set. A row with NaN (an objective that was not measured) is not in the
    set and dominates no row.

    Args:
        values: (n_trials, n_objectives).
        maximise: for each objective, whether more is better.

    Returns:
        (n_trials,) booleans.

    Raises:
        ValueError: `values` is not two-dimensional, or `maximise` has not one entry for each column.
    """
    if values.ndim != 2 or values.shape[1] != len(maximise) or not maximise:
        raise ValueError(f"values must be (n_trials, {len(maximise)}), a column per objective, got {values.shape}")
    front: NDArray[np.bool_] = ~np.any(np.isnan(values), axis=1)
    measured = np.flatnonzero(front)
    gains = values[measured] * np.where(maximise, 1.0, -1.0)
    for start in range(0, len(gains), BLOCK):
        rows = gains[start : start + BLOCK, None]
        beats = np.all(gains >= rows, axis=2) & np.any(gains > rows, axis=2)
        front[measured[start : start + BLOCK]] = ~np.any(beats, axis=1)
    return front


def is_feasible(constraints: Iterable[Constraint], get_metric: Callable[[str], float]) -> bool:
    """Return whether a trial's metrics are within the constraints; False if one of them was not measured."""
    return all(limit.compute_excess(get_metric(limit.metric)) <= 0 for limit in constraints)


def find_pareto_set(
    trials: Sequence[T], objectives: Sequence[Objective], get_metric: Callable[[T, str], float]
) -> list[T]:
    """Return the trials that no other trial beats in every objective, in their order."""
    if not trials:
        return []
    values = np.array([[get_metric(trial, goal.metric) for goal in objectives] for trial in trials], dtype=np.float64)
    marks = mark_pareto_front(values, [goal.direction == "maximize" for goal in objectives])
    return [trial for trial, is_in in zip(trials, marks, strict=True) if is_in]
