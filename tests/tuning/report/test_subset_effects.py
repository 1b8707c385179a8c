"""What the members of a searched set gain."""

import dataclasses

import pytest

from ser_platform.tuning.report.subset_effects import estimate_member_effects, summarise_members
from ser_platform.tuning.report.trial_table import TrialTable
from tests.tuning.report.made_studies import AXES, made_study

(SETS,) = (axis for axis in AXES if axis.name == "features.sets")
GAIN = 0.1


def with_a_gain(table: TrialTable, member: str) -> TrialTable:
    """Return the study had the member of the set gained something."""
    trials = [
        dataclasses.replace(
            trial,
            best_dev_uar=trial.best_dev_uar + GAIN * (member in trial.params["features.sets"]),
            dev_uar_by_epoch={
                e: s + GAIN * (member in trial.params["features.sets"]) for e, s in trial.dev_uar_by_epoch.items()
            },
        )
        for trial in table.trials
    ]
    return TrialTable(table.axes, tuple(trials))


def test_a_member_that_gains_is_first_and_sure_and_its_interval_holds_the_gain():
    first, *others = estimate_member_effects(with_a_gain(made_study(60, seed=1), "mfcc"), SETS)
    assert (first.name, first.is_sure) == ("mfcc", True)
    assert first.low < GAIN < first.high
    assert not any(member.is_sure for member in others)


def test_of_members_that_do_nothing_few_are_sure():
    sure = sum(
        any(member.is_sure for member in estimate_member_effects(made_study(60, seed), SETS)) for seed in range(20)
    )
    assert sure <= 3, "all intervals of a study hold together at 95 %"


def test_it_is_said_which_gain_and_of_which_it_is_not_sure():
    told = summarise_members(SETS, estimate_member_effects(with_a_gain(made_study(60, seed=1), "mfcc"), SETS))
    assert told.startswith("features.sets: mfcc gains 0.1")
    assert "; interval contains 0: " in told


@pytest.mark.parametrize("trials", [0, 4])
def test_with_too_few_trials_it_says_so(trials):
    few = TrialTable(AXES, made_study(20, seed=0).trials[:trials])
    assert "too few trials" in summarise_members(SETS, estimate_member_effects(few, SETS))
