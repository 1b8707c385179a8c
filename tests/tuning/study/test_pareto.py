import numpy as np
import pytest

from ser_platform.tuning.search_space.space import Constraint, Objective
from ser_platform.tuning.study.pareto import find_pareto_set, is_feasible, mark_pareto_front


def beaten(row, rows, maximise):
    """The definition, in plain Python."""
    for other in rows:
        gains = [b - a if more else a - b for a, b, more in zip(row, other, maximise, strict=True)]
        if min(gains) >= 0 and max(gains) > 0:
            return True
    return False


@pytest.mark.parametrize("maximise", [(True,), (False,), (True, False), (True, True), (False, True, False)])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_comparing_every_pair_gives(maximise, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, size=(400, len(maximise))).astype(float)  # whole numbers: many ties and duplicates
    expected = [not beaten(row, values, maximise) for row in values]
    assert mark_pareto_front(values, maximise).tolist() == expected


def test_every_copy_of_a_best_row_is_in_the_front():
    values = np.array([[0.8, 100.0], [0.8, 100.0], [0.7, 200.0]])
    assert mark_pareto_front(values, [True, False]).tolist() == [True, True, False]


def test_a_row_with_nan_is_not_in_the_front_and_keeps_no_other_out():
    values = np.array([[0.9, np.nan], [0.5, 10.0], [np.nan, 1.0]])
    assert mark_pareto_front(values, [True, False]).tolist() == [False, True, False]


def test_a_trial_of_infinite_cost_is_beaten_by_one_as_good_at_any_cost():
    values = np.array([[0.8, np.inf], [0.8, 5.0]])
    assert mark_pareto_front(values, [True, False]).tolist() == [False, True]


def test_no_trials_have_an_empty_front():
    assert mark_pareto_front(np.empty((0, 2)), [True, False]).tolist() == []


def test_a_direction_is_needed_for_each_objective():
    with pytest.raises(ValueError, match="column per objective"):
        mark_pareto_front(np.zeros((3, 2)), [True])


def test_the_pareto_set_of_trials_is_read_from_their_metrics_in_their_order():
    trials = [
        {"dev_uar": 0.5, "parameters": 10},
        {"dev_uar": 0.4, "parameters": 20},
        {"dev_uar": 0.9, "parameters": 30},
    ]
    objectives = [Objective("dev_uar", "maximize"), Objective("parameters", "minimize")]
    assert find_pareto_set(trials, objectives, dict.__getitem__) == [trials[0], trials[2]]
    assert find_pareto_set([], objectives, dict.__getitem__) == []


def test_a_trial_that_did_not_measure_a_constrained_metric_is_not_feasible():
    limits = [Constraint("forward_ms", at_most=5)]
    assert is_feasible(limits, {"forward_ms": 5.0}.__getitem__)
    assert not is_feasible(limits, {"forward_ms": 5.1}.__getitem__)
    assert not is_feasible(limits, {"forward_ms": float("nan")}.__getitem__)
