"""The status line of a running study."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from ser_platform.tuning.study.status_line import make_status_line
from ser_platform.tuning.study.trial_outcome import Outcome


def make_recorder(ended: int, trials: int, minutes: float = 60) -> Any:
    counts = dict.fromkeys((Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED, Outcome.RUNNING), 0)
    budget = SimpleNamespace(trials=trials, minutes=minutes)
    space = SimpleNamespace(name="student", budget=budget)
    return SimpleNamespace(state_counts=counts | {Outcome.COMPLETE: ended}, best_record=None, space=space)


@pytest.mark.parametrize(
    ("ended", "trials", "has_estimate"),
    [(1, 12, False), (2, 4, False), (3, 12, True), (3, 40, False), (7, 40, False), (8, 40, True), (12, 12, False)],
)
def test_the_time_left_is_estimated_after_three_trials_and_a_fifth_of_all(
    ended: int, trials: int, has_estimate: bool
) -> None:
    recorder = make_recorder(0, trials)
    show = make_status_line(recorder, time.monotonic() - 60)
    recorder.state_counts[Outcome.COMPLETE] = ended
    assert ("left" in show()) == has_estimate


def test_trials_from_before_a_resume_do_not_enter_the_estimate() -> None:
    recorder = make_recorder(8, 20)
    show = make_status_line(recorder, time.monotonic() - 40)
    assert "left" not in show()
    recorder.state_counts[Outcome.COMPLETE] = 12
    assert "about 1:20 left" in show(), "4 trials took 40 s, 8 are missing"


def test_a_study_whose_time_is_up_starts_no_trials() -> None:
    assert "time is up, no new trials start" in make_status_line(make_recorder(1, 12, 0.5), time.monotonic() - 31)()
