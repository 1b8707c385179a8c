import numpy as np
import pytest

from ser_platform.features.store.shard import compute_sums
from ser_platform.features.views.normaliser import (
    GLOBAL_NORMALISATION,
    NO_NORMALISATION,
    SPEAKER_NORMALISATION,
    STD_FLOOR,
    UTTERANCE_NORMALISATION,
    Normaliser,
    make_protocol_note,
)
from ser_platform.settings import SETTINGS


def fitted(frames: np.ndarray) -> Normaliser:
    return Normaliser.from_sums(len(frames), compute_sums(frames))


def test_what_it_was_fitted_on_comes_out_with_mean_zero_and_deviation_one():
    frames = np.random.default_rng(0).normal([3.0, -50.0], [0.1, 20.0], (500, 2))
    scaled = fitted(frames)(frames.astype(np.float32))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_a_constant_column_comes_out_as_zero():
    normaliser = fitted(np.full((10, 1), 2.0))
    assert normaliser.std.tolist() == [np.float32(STD_FLOOR)]
    assert normaliser(np.full((3, 1), 2.0, np.float32)).tolist() == [[0], [0], [0]]


def test_groups_fitted_at_once_are_groups_fitted_alone():
    groups = [np.random.default_rng(n).normal(n, 1 + n, (20 + n, 3)) for n in range(4)]
    lengths = np.array([len(group) for group in groups])
    together = Normaliser.from_sums(lengths, np.stack([compute_sums(group) for group in groups]))
    for number, group in enumerate(groups):
        np.testing.assert_array_equal(together.take(np.array([number])).mean[0], fitted(group).mean)
        np.testing.assert_array_equal(together.std[number], fitted(group).std)


def test_columns_of_several_stand_side_by_side():
    frames = np.random.default_rng(0).normal(size=(50, 3))
    joined = Normaliser.concatenate([fitted(frames[:, :1]), fitted(frames[:, 1:])])
    np.testing.assert_array_equal(joined.mean, fitted(frames).mean)
    np.testing.assert_array_equal(joined.std, fitted(frames).std)


@pytest.mark.parametrize("normalise", SETTINGS["features.normalise"].choices)
def test_only_what_knows_the_test_speakers_clips_is_told_on_the_protocol(normalise):
    assert (make_protocol_note(normalise) is None) == (normalise != "speaker")
    assert "per-speaker" in (make_protocol_note("speaker") or "")


def test_every_normalisation_is_a_setting():
    named = (GLOBAL_NORMALISATION, UTTERANCE_NORMALISATION, SPEAKER_NORMALISATION, NO_NORMALISATION)
    assert SETTINGS["features.normalise"].choices == named
