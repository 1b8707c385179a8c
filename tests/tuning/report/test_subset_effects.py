"""The gain of the members of a searched set."""

import dataclasses

import pytest

from ser_platform.tuning.report.subset_effects import estimate_member_effects, summarise_members
from ser_platform.tuning.report.trial_table import TrialTable
from tests.tuning.report.made_studies import AXES, made_study

(SETS,) = (axis for axis in AXES if axis.name == "features.sets")
GAIN = 0.1


def add_gain(table: TrialTable, member: str) -> TrialTable:
    """Return the study with a gain for the trials with the member."""
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


def test_a_member_with_a_gain_is_first_and_its_interval_contains_the_gain():
    first, *others = estimate_member_effects(add_gain(made_study(60, seed=1), "mfcc"), SETS)
    assert (first.name, first.is_sure) == ("mfcc", True)
    assert first.low < GAIN < first.high
    assert not any(member.is_sure for member in others)


def test_few_members_without_an_effect_are_certain():
    sure = sum(
        any(member.is_sure for member in estimate_member_effects(made_study(60, seed), SETS)) for seed in range(20)
    )
    assert sure <= 3, "the intervals of a study are simultaneous"


def test_the_line_lists_certain_gains_and_then_the_others():
    line = summarise_members(SETS, estimate_member_effects(add_gain(made_study(60, seed=1), "mfcc"), SETS))
    assert line.startswith("features.sets, gain of each member in mean dev UAR: mfcc +0.1")
    assert "; interval contains 0: " in line


@pytest.mark.parametrize("trials", [0, 4])
def test_too_few_trials_are_reported(trials):
    few = TrialTable(AXES, made_study(20, seed=0).trials[:trials])
    assert "too few trials" in summarise_members(SETS, estimate_member_effects(few, SETS))
