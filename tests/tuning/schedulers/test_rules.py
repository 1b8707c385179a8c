"""Early-stopping rules against stops computed by hand."""

import random

import pytest

from ser_platform.tuning.schedulers.rules import Asha, MedianRule
from ser_platform.tuning.schedulers.rung_store import RungStore


def test_the_rungs_are_grace_times_powers_of_the_factor_below_the_last_epoch():
    assert list(Asha(3, 3, 30).rungs) == [3, 9, 27]
    assert list(Asha(3, 3, 27).rungs) == [3, 9]
    assert list(Asha(5, 2, 5).rungs) == []


def test_the_stops_are_those_computed_by_hand():
    asha = Asha(1, 2, 4)  # half of the trials at a rung continue: the cutoff is the median of the earlier scores
    assert not asha.record_score(0, 1, 0.5)  # the first has no score to be compared with
    assert asha.record_score(1, 1, 0.4)  # below 0.5
    assert asha.record_score(2, 1, 0.44)  # below the median of 0.5 and 0.4
    assert not asha.record_score(3, 1, 0.44)  # as good as the median of 0.5, 0.4 and 0.44
    assert not asha.record_score(4, 1, 0.6)


def test_a_third_continues_with_a_factor_of_three():
    asha = Asha(1, 3, 9)
    asha.replay((trial, {1: score}) for trial, score in enumerate([0.0, 0.3, 0.6, 0.9]))
    assert asha.compute_cutoff(1, 4) == pytest.approx(0.6)  # two thirds of the way from the worst to the best
    assert asha.record_score(4, 1, 0.59)


def test_no_trial_is_stopped_between_rungs_or_in_the_grace_epochs():
    asha = Asha(3, 3, 30)
    for epoch in range(1, 30):
        for trial in range(5):
            stopped = asha.record_score(trial, epoch, -float(trial))
            assert not stopped or epoch in (3, 9, 27)
            assert not (stopped and epoch < 3)


def test_a_trial_is_not_compared_with_itself():
    asha = Asha(1, 2, 4)
    asha.record_score(0, 1, 0.9)
    assert asha.record_score(1, 1, 0.1)
    assert asha.record_score(1, 1, 0.1), "as before the interruption"
    assert asha.rungs[1] == {0: 0.9, 1: 0.1}


def test_a_replayed_study_stops_the_same_trials_as_an_uninterrupted_one():
    rng = random.Random(0)
    histories = {trial: {epoch: rng.random() for epoch in range(1, 10)} for trial in range(40)}

    def run(asha: Asha, trials: range) -> dict[int, dict[int, float]]:
        seen: dict[int, dict[int, float]] = {}
        for trial in trials:
            for epoch, score in histories[trial].items():
                seen.setdefault(trial, {})[epoch] = score
                if asha.record_score(trial, epoch, score):
                    break
        return seen

    uninterrupted, before, after = Asha(1, 3, 10), Asha(1, 3, 10), Asha(1, 3, 10)
    expected = run(uninterrupted, range(40))
    first_half = run(before, range(20))
    after.replay(first_half.items())
    assert after.rungs == before.rungs
    assert first_half | run(after, range(20, 40)) == expected
    assert after.rungs == uninterrupted.rungs


def test_brackets_start_later_one_after_another_and_get_their_shares():
    asha = Asha(1, 3, 30, brackets=3)  # rungs 1, 3, 9, 27
    members = [asha.assign_bracket(trial) for trial in range(3000)]
    shares = [members.count(bracket) / 3000 for bracket in range(3)]
    assert shares == pytest.approx([0.665, 0.245, 0.090], abs=0.01)  # softmax of 4, 3, 2 rungs
    late = members.index(2)
    assert [epoch for epoch in range(1, 30) if asha.can_stop_at(late, epoch)] == [9, 27]


def test_a_trial_is_compared_with_its_own_bracket():
    asha = Asha(1, 2, 8, brackets=2)
    first, second = (next(t for t in range(50) if asha.assign_bracket(t) == bracket) for bracket in (0, 1))
    assert not asha.record_score(first, 2, 0.9)
    assert not asha.record_score(second, 2, 0.1), "it is the first of its bracket"


def test_the_median_rule_stops_trials_below_the_median_of_running_averages():
    median = MedianRule(1, 10)
    for trial, scores in enumerate(([0.2, 0.6], [0.4, 0.4], [0.5, 0.9])):  # averages after epoch 2: 0.4, 0.4, 0.7
        for epoch, score in enumerate(scores, 1):
            median.record_score(trial, epoch, score)
    assert not median.record_score(3, 1, 0.0), "within the grace epochs"
    assert median.record_score(3, 2, 0.39)
    assert not median.record_score(4, 2, 0.4)


def test_the_median_rule_is_rebuilt_from_history_and_its_rungs_from_their_file(tmp_path):
    rng = random.Random(1)
    histories = [(trial, {epoch: rng.random() for epoch in range(1, 6)}) for trial in range(9)]
    live, rebuilt = MedianRule(1, 10), MedianRule(1, 10)
    for trial, scores in histories:
        for epoch, score in scores.items():
            live.record_score(trial, epoch, score)
    rebuilt.replay(histories)
    assert rebuilt.rungs == live.rungs
    RungStore(tmp_path).save(live.rungs)
    assert RungStore(tmp_path).read() == live.rungs
