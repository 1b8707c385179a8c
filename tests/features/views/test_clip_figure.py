"""The figure of a clip and its measurements."""

import math
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.audio.reader import Audio
from ser_platform.features.views.clip_figure import MEL_TICKS, AnalysedClip, _to_mel, draw_clip


@pytest.fixture
def tone_clip(tone) -> AnalysedClip:
    """A second of 200 Hz between two half seconds of silence."""
    quiet = np.zeros(8000, np.float32)
    return AnalysedClip.from_audio(Audio(np.concatenate([quiet, tone(200.0, 1.0, level=1.0), quiet]), 16_000))


def test_duration_and_rate_are_those_of_the_file(tone):
    facts = AnalysedClip.from_audio(Audio(tone(200.0, 0.5, sample_rate=44_100), 44_100)).facts
    assert facts.seconds == 0.5
    assert facts.sample_rate == 44_100


def test_a_sine_that_reaches_full_scale_has_minus_three_decibels(tone):
    facts = AnalysedClip.from_audio(Audio(tone(200.0, 1.0, level=1.0), 16_000)).facts
    assert facts.level_dbfs == pytest.approx(20 * math.log10(1 / math.sqrt(2)), abs=0.01)


def test_silence_is_the_share_of_silent_frames(tone_clip):
    assert tone_clip.facts.silence == pytest.approx(0.5, abs=0.02)


def test_the_mean_f0_is_the_pitch_of_the_tone(tone_clip):
    assert tone_clip.facts.mean_f0_hz == pytest.approx(200, abs=1)
    assert tone_clip.facts.voiced == pytest.approx(0.5, abs=0.05)


def test_noise_is_unvoiced(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    clip = AnalysedClip.from_audio(Audio(noise, 16_000))
    assert clip.facts.mean_f0_hz is None
    assert "no voice found" in str(clip.facts)
    draw_clip(clip, "noise", tmp_path / "noise.png")


@pytest.mark.parametrize("seconds", [0.1, 0.5, 3.0])
def test_a_clip_of_any_length_is_drawn(seconds, tone, tmp_path):
    path = tmp_path / "new" / "clip.png"
    draw_clip(AnalysedClip.from_audio(Audio(tone(200.0, seconds), 16_000)), "a tone", path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_tone_is_in_the_band_of_its_axis_label(tone):
    for hertz in MEL_TICKS:
        log_mel = AnalysedClip.from_audio(Audio(tone(float(hertz), 0.5), 16_000)).features["log_mel"]
        place = _to_mel(hertz) / (_to_mel(8000) / 65) - 1
        assert abs(int(log_mel[10:40].mean(axis=0).argmax()) - place) <= 1


@pytest.mark.corpora
def test_real_speech_has_human_pitch():
    from ser_platform.corpora.audio.reader import read_audio
    from ser_platform.settings import corpora_folder

    folder = corpora_folder()
    assert folder is not None
    paths: list[Path] = sorted((folder / "emodb").rglob("*.wav"))[:3]
    assert paths
    for path in paths:
        mean_f0_hz = AnalysedClip.from_audio(read_audio(path)).facts.mean_f0_hz
        assert mean_f0_hz is not None and 70 < mean_f0_hz < 500
