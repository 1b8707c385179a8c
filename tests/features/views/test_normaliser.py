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


def fit(frames: np.ndarray) -> Normaliser:
    return Normaliser.from_sums(len(frames), compute_sums(frames))


def test_the_fitted_frames_get_mean_zero_and_deviation_one():
    frames = np.random.default_rng(0).normal([3.0, -50.0], [0.1, 20.0], (500, 2))
    scaled = fit(frames)(frames.astype(np.float32))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_a_constant_column_becomes_zero():
    normaliser = fit(np.full((10, 1), 2.0))
    assert normaliser.std.tolist() == [np.float32(STD_FLOOR)]
    assert normaliser(np.full((3, 1), 2.0, np.float32)).tolist() == [[0], [0], [0]]


def test_groups_fitted_together_equal_groups_fitted_alone():
    groups = [np.random.default_rng(n).normal(n, 1 + n, (20 + n, 3)) for n in range(4)]
    lengths = np.array([len(group) for group in groups])
    together = Normaliser.from_sums(lengths, np.stack([compute_sums(group) for group in groups]))
    for number, group in enumerate(groups):
        np.testing.assert_array_equal(together.take(np.array([number])).mean[0], fit(group).mean)
        np.testing.assert_array_equal(together.std[number], fit(group).std)


def test_columns_of_several_normalisers_are_concatenated():
    frames = np.random.default_rng(0).normal(size=(50, 3))
    joined = Normaliser.concatenate([fit(frames[:, :1]), fit(frames[:, 1:])])
    np.testing.assert_array_equal(joined.mean, fit(frames).mean)
    np.testing.assert_array_equal(joined.std, fit(frames).std)


@pytest.mark.parametrize("normalise", SETTINGS["features.normalise"].choices)
def test_only_per_speaker_normalisation_has_a_protocol_note(normalise):
    assert (make_protocol_note(normalise) is None) == (normalise != "speaker")
    assert "per-speaker" in (make_protocol_note("speaker") or "")


def test_every_normalisation_is_a_setting():
    named = (GLOBAL_NORMALISATION, UTTERANCE_NORMALISATION, SPEAKER_NORMALISATION, NO_NORMALISATION)
    assert SETTINGS["features.normalise"].choices == named
