"""The best trial of each value of an axis."""

import pytest

from ser_platform.tuning.report.axis_effects import summarise_best_trials
from ser_platform.tuning.report.trial_table import TrialTable
from tests.tuning.report.made_studies import AXES, made_study

(NORM,) = (axis for axis in AXES if axis.name == "model.norm")


def test_the_best_trial_of_each_choice_is_listed_better_choices_first():
    table = made_study(12, seed=3)
    scores = {
        choice: [s for t, s in zip(table.scored, table.final_scores, strict=True) if t.params["model.norm"] == choice]
        for choice in NORM.values
    }
    first, last = sorted(scores, key=lambda choice: -max(scores[choice]))
    line = summarise_best_trials(table, NORM)
    assert line.index(first) < line.index(last)
    assert f"{first} {max(scores[first]):.3f} (of {len(scores[first])})" in line


@pytest.mark.parametrize("trials", [0, 1])
def test_choices_that_no_trial_had_are_left_out(trials):
    line = summarise_best_trials(TrialTable(AXES, made_study(2, seed=0).trials[:trials]), NORM)
    assert line.count("(of 1)") == trials
