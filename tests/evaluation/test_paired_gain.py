"""Paired gains over speakers and seeds, and when a gain is proven."""

import numpy as np
import pytest

from ser_platform.evaluation.paired_gain import compare_arms, measure_agreement, seeded_interval
from ser_platform.metrics import uar

SPEAKERS, CLIPS, EMOTIONS, SEEDS = 12, 30, 3, 3


def corpus(n_speakers: int = SPEAKERS) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and speakers."""
    return np.tile(np.arange(EMOTIONS), n_speakers * CLIPS // EMOTIONS), np.repeat(
        [f"s{number:02}" for number in range(n_speakers)], CLIPS
    )


def predictions(targets: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Return predictions `(SEEDS, n_clips)` of which about the share `right` is right."""
    rng = np.random.default_rng(seed)
    is_right = rng.random((SEEDS, len(targets))) < right
    return np.where(is_right, targets, (targets + rng.integers(1, EMOTIONS, is_right.shape)) % EMOTIONS)


def test_the_value_is_the_mean_uar_over_seeds() -> None:
    targets, speakers = corpus()
    first, second = predictions(targets, 0.5, 0), predictions(targets, 0.7, 1)
    found = compare_arms(targets, first, second, speakers)
    by_hand = [np.mean([uar(targets, row, EMOTIONS) for row in arm]) for arm in (first, second)]
    assert found.first.value == pytest.approx(by_hand[0])
    assert found.second.value == pytest.approx(by_hand[1])
    assert found.gain.value == pytest.approx(by_hand[1] - by_hand[0])
    assert found.first == seeded_interval(targets, first, speakers)


def test_a_clear_gain_is_proven_and_identical_arms_have_none() -> None:
    targets, speakers = corpus()
    first, second = predictions(targets, 0.5, 0), predictions(targets, 0.7, 1)
    assert compare_arms(targets, first, second, speakers).is_proven
    assert "a gain" in compare_arms(targets, first, second, speakers).verdict
    assert "a loss" in compare_arms(targets, second, first, speakers).verdict
    same = compare_arms(targets, first, first, speakers)
    assert not same.is_proven and "holds 0" in same.verdict
    assert same.gain.low == same.gain.value == same.gain.high == 0, "the same draws for both"


def test_a_gain_of_one_seed_in_three_is_not_proven() -> None:
    targets, speakers = corpus()
    first = np.repeat(predictions(targets, 0.5, 0)[:1], SEEDS, axis=0)
    second = first.copy()
    second[0] = targets
    found = compare_arms(targets, first, second, speakers)
    assert found.gain.value > 0.1
    assert found.gain.low <= 0, "without that seed there is no gain"
    assert not found.is_proven


def test_bounds_stay_in_range_where_seeds_are_far_apart() -> None:
    targets, speakers = corpus()
    wrong = (targets + 1) % EMOTIONS
    first, second = np.stack([wrong, wrong, targets]), np.stack([targets, targets, wrong])
    found = compare_arms(targets, first, second, speakers)
    assert (found.first.low, found.second.high) == (0.0, 1.0)
    assert -1 <= found.gain.low < 0 < found.gain.high <= 1
    assert seeded_interval(targets, second, speakers) == found.second


def test_few_speakers_or_seeds_prove_nothing() -> None:
    targets, speakers = corpus(4)
    first, second = predictions(targets, 0.4, 0), predictions(targets, 0.9, 1)
    few = compare_arms(targets, first, second, speakers)
    assert few.gain.low > 0 and not few.is_proven
    assert "these 4 speakers only" in few.verdict
    targets, speakers = corpus()
    first, second = predictions(targets, 0.4, 0)[:2], predictions(targets, 0.9, 1)[:2]
    assert not compare_arms(targets, first, second, speakers).is_proven
    assert "2 seeds" in compare_arms(targets, first, second, speakers).verdict


def test_few_null_gains_are_proven_where_seeds_differ_more_than_speakers() -> None:
    targets, speakers = corpus(90)

    def arm(n: int) -> np.ndarray:
        luck = np.random.default_rng(n).normal(0.6, 0.03, SEEDS)
        return np.concatenate([predictions(targets, right, 7 * n + k)[:1] for k, right in enumerate(luck)])

    called = [compare_arms(targets, arm(2 * n), arm(2 * n + 1), speakers).is_proven for n in range(100)]
    assert np.mean(called) <= 0.06, "a plain bootstrap of three seeds gives 0.14"


def test_null_gains_are_proven_about_as_often_as_the_level() -> None:
    targets, speakers = corpus()
    called = [
        compare_arms(
            targets, predictions(targets, 0.6, 2 * n), predictions(targets, 0.6, 2 * n + 1), speakers
        ).is_proven
        for n in range(100)
    ]
    assert np.mean(called) <= 0.06


def test_agreement_is_the_mean_over_the_others() -> None:
    teacher = np.array([0, 1, 2, 0])
    assert measure_agreement(teacher, [teacher, np.array([0, 1, 0, 1])]) == pytest.approx(0.75)
