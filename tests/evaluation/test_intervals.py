"""Intervals resample speakers where there are at least eight, and clips, with a caveat, where there are fewer."""

import numpy as np
import pytest

from ser_platform.evaluation.intervals import metric_intervals, paired_interval
from ser_platform.metrics import uar


def uar_interval(targets, predictions, speakers, level=0.95):
    """Return the interval of the UAR; classes are named by their number."""
    labels = tuple(str(number) for number in range(int(max(targets.max(), predictions.max())) + 1))
    return metric_intervals(targets, predictions, speakers, labels, level)["uar"]


def draw_predictions(n_speakers: int, n_clips: int = 20, right: float = 0.7, seed: int = 0):
    """Return targets, predictions that are right with probability `right`, and speakers."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, n_speakers * n_clips)
    wrong = (targets + rng.integers(1, 4, len(targets))) % 4
    predictions = np.where(rng.random(len(targets)) < right, targets, wrong)
    return targets, predictions, np.repeat([f"s{n}" for n in range(n_speakers)], n_clips)


@pytest.mark.parametrize(
    ("n_speakers", "over", "caveat"),
    [
        (2, "clips", "these 2 speakers only"),
        (7, "clips", "these 7 speakers only"),
        (8, "speakers", ""),
        (20, "speakers", ""),
    ],
)
def test_eight_speakers_are_enough_to_resample_them(n_speakers, over, caveat):
    interval = uar_interval(*draw_predictions(n_speakers))
    assert (interval.n_speakers, interval.over, interval.caveat) == (n_speakers, over, caveat)


def test_the_value_is_the_uar_and_is_inside_the_interval():
    targets, predictions, speakers = draw_predictions(10)
    interval = uar_interval(targets, predictions, speakers)
    assert interval.value == uar(targets, predictions, 4)
    assert 0 <= interval.low < interval.value < interval.high <= 1


def test_a_higher_level_gives_a_wider_interval():
    narrow, wide = (uar_interval(*draw_predictions(10), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_perfect_predictions_have_an_interval_of_width_zero():
    targets, _, speakers = draw_predictions(10)
    interval = uar_interval(targets, targets, speakers)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


def test_identical_predictions_have_no_gain():
    targets, predictions, speakers = draw_predictions(10)
    interval = paired_interval(targets, predictions, predictions, speakers)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_gain_is_the_second_minus_the_first():
    targets, worse, speakers = draw_predictions(12, right=0.4)
    better = draw_predictions(12, right=0.9)[1]
    gain, loss = (paired_interval(targets, *pair, speakers) for pair in ((worse, better), (better, worse)))
    assert gain.low > 0.3
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))


def test_an_interval_is_the_same_each_time():
    assert uar_interval(*draw_predictions(10)) == uar_interval(*draw_predictions(10))


def test_speakers_that_differ_widen_the_interval_over_speakers():
    """Every second speaker is always predicted right, the others never: resampling clips underestimates the spread."""
    targets = np.tile(np.arange(4), 16 * 5)
    speakers = np.repeat(np.arange(16).astype(str), 20)
    predictions = np.where(speakers.astype(int) % 2, targets, (targets + 1) % 4)
    over_speakers = uar_interval(targets, predictions, speakers)
    over_clips = uar_interval(targets, predictions, np.where(speakers.astype(int) % 2, "a", "b"))
    assert over_speakers.high - over_speakers.low > 3 * (over_clips.high - over_clips.low)


@pytest.mark.parametrize("n_speakers", [4, 15])
def test_ninety_five_of_a_hundred_intervals_contain_the_truth(n_speakers):
    held = [
        interval.low <= 0.7 <= interval.high
        for interval in (uar_interval(*draw_predictions(n_speakers, seed=seed)) for seed in range(60))
    ]
    assert np.mean(held) >= 0.85
