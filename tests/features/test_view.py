import numpy as np
import pytest

from ser_platform.corpora.audio import Audio
from ser_platform.errors import UserError
from ser_platform.features.view import FeatureView
from ser_platform.settings import resolve


def test_a_view_is_as_wide_as_its_sets(tone):
    view = FeatureView(("log_mel", "mfcc", "zcr", "rms"), n_mfcc=13, max_seconds=10.0, crop="head")
    assert view.n_features == 64 + 13 + 1 + 1 == view.of_audio(Audio(tone(440.0, 0.5), 16_000)).shape[1]


@pytest.mark.parametrize(("crop", "kept"), [("head", slice(0, 100)), ("centre", slice(20, 120))])
def test_a_longer_clip_is_cropped(crop, kept):
    view = FeatureView(("rms",), 20, 1.0, crop)
    assert view.frames(140) == kept
    assert view.frames(80) == slice(0, 80)


def test_a_second_is_a_hundred_frames_or_16000_samples():
    assert FeatureView(("rms",), 20, 2.5, "head").max_frames == 250
    assert FeatureView(("waveform",), 20, 2.5, "head").max_frames == 40_000


def test_cropped_features_are_a_part_of_the_whole_clips(tone):
    clip = tone(440.0, 1.0) * np.linspace(0, 1, 16_000, dtype=np.float32)
    whole = FeatureView(("log_mel", "rms"), 20, 9.0, "centre").of_audio(Audio(clip, 16_000))
    centre = FeatureView(("log_mel", "rms"), 20, 0.5, "centre").of_audio(Audio(clip, 16_000))
    np.testing.assert_array_equal(centre, whole[25:75])


def test_samples_and_frames_do_not_go_side_by_side():
    with pytest.raises(UserError, match="waveform stands alone"):
        FeatureView(("log_mel", "waveform"), 20, 1.0, "head")


def test_a_view_follows_from_the_settings():
    settings = resolve({"data.max_seconds": 1.5, "features.n_mfcc": 30, "data.crop": "head"})
    assert FeatureView.from_settings(settings, ("mfcc",)) == FeatureView(("mfcc",), 30, 1.5, "head")
