import numpy as np
import pytest

from ser_platform.tuning.report.importance import MIN_TRIALS, estimate_importance
from ser_platform.tuning.report.trial_table import Trial, TrialTable
from ser_platform.tuning.study.trial_outcome import Outcome
from tests.tuning.report.made_studies import CHILD, NULLS, STRONG, WEAK, made_study, share_of_strong

SEEDS = range(20)


@pytest.fixture(scope="module")
def found():
    return [estimate_importance(made_study(100, seed, pruned=0.3), seed) for seed in SEEDS]


def test_the_strong_axis_is_first(found):
    assert sum(each.axes[0].axis.name == STRONG for each in found) >= 19
    assert all(axis.has_effect for each in found for axis in each.axes if axis.axis.name == STRONG)


def test_axes_that_do_nothing_are_named_without_effect(found):
    innocent = [not any(axis.has_effect for axis in each.axes if axis.axis.name in NULLS) for each in found]
    assert sum(innocent) >= 18


def test_the_interval_of_the_strong_axis_contains_the_true_share(found):
    strong = [axis for each in found for axis in each.axes if axis.axis.name == STRONG]
    assert sum(axis.low <= share_of_strong() <= axis.high for axis in strong) >= 18
    assert np.mean([axis.high - axis.low for axis in strong]) < 0.6  # [0, 1] would always contain it


def test_a_weak_axis_ranks_above_those_that_do_nothing(found):
    def share(each, names):
        return np.mean([axis.share for axis in each.axes if axis.axis.name in names])

    assert sum(share(each, {WEAK}) > share(each, NULLS) for each in found) >= 16


def test_a_conditional_axis_is_found_where_it_exists():
    table = made_study(400, 0)
    child = next(axis for axis in estimate_importance(table).axes if axis.axis.name == CHILD)
    assert child.has_effect


def test_with_too_few_trials_there_is_no_importance():
    few = estimate_importance(made_study(MIN_TRIALS - 1, 0))
    assert not few.is_known and few.axes == () and few.min_trials == MIN_TRIALS


def test_a_pruned_trial_counts_with_the_gain_that_complete_ones_made_from_its_epoch():
    trials = (
        Trial(0, Outcome.COMPLETE, {}, 0.7, {1: 0.5, 2: 0.7}),
        Trial(1, Outcome.COMPLETE, {}, 0.6, {1: 0.4, 2: 0.6}),
        Trial(2, Outcome.PRUNED, {}, 0.3, {1: 0.3}),
    )
    np.testing.assert_allclose(TrialTable((), trials).final_scores, [0.7, 0.6, 0.5])


def test_a_failed_trial_is_not_scored():
    table = made_study(40, 0)
    failed = Trial(40, "failed", dict(table.trials[0].params), 0.99, {1: 0.99})
    assert TrialTable(table.axes, (*table.trials, failed)).scored == table.scored
