"""The gate on UAR, a pure function."""

import pytest

from ser_platform.evaluation.intervals import Interval
from ser_platform.tracking.promotion import interval_gate, split_gate


def test_an_interval_that_excludes_the_loss_passes() -> None:
    assert interval_gate("ser-student v2", Interval(0.02, -0.03, 0.07, 24, "speakers"), margin=0.05).passed


def test_an_interval_that_reaches_beyond_the_margin_is_refused_with_figures() -> None:
    gate = interval_gate("ser-student v2", Interval(0.01, -0.08, 0.10, 24, "speakers"), margin=0.05)
    assert not gate.passed
    assert "0.080 worse" in gate.detail
    assert "0.050" in gate.detail


@pytest.mark.parametrize(("speakers", "weak"), [(2, True), (7, True), (8, False)])
def test_few_speakers_are_called_weak_evidence(speakers: int, weak: bool) -> None:
    over = "clips" if weak else "speakers"
    gate = interval_gate("ser-student v2", Interval(0.0, 0.0, 0.0, speakers, over), margin=0.05)
    assert ("weak evidence" in gate.detail) == weak


def test_a_candidate_whose_split_leaks_is_not_let_through():
    assert split_gate("speaker_kfold:5 fold 2/5").passed
    gate = split_gate("random (speakers overlap)")
    assert not gate.passed and gate.detail.startswith("speakers overlap: ")
