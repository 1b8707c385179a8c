"""The measurements of one clip, against values known from its synthesis."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.audio.reader import read_audio
from ser_platform.corpora.doctor.measurements import estimate_silence_and_snr, measure, measure_full_scale_runs
from ser_platform.errors import BadAudio


@pytest.fixture
def measured(tmp_path):
    """Write samples to a file and return what is measured of it."""

    def write(samples, sample_rate=16_000, name="clip.wav", **how):
        soundfile.write(tmp_path / name, samples, sample_rate, **how)
        return measure(tmp_path / name)[0]

    return write


def test_the_format_is_that_of_the_header(measured, tone):
    stereo = np.stack([tone(200.0, 1.0, 44_100)] * 2, axis=1)
    clip = measured(stereo, 44_100, "clip.flac", subtype="PCM_24")
    assert (clip.sample_rate, clip.channels, clip.subtype) == (44_100, 2, "PCM_24")
    assert clip.seconds == pytest.approx(1.0, abs=1e-3)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_format_of_a_recording_that_ffmpeg_decodes_is_that_of_its_content(tmp_path, tone):
    soundfile.write(tmp_path / "source.wav", tone(200.0, 1.0, 48_000), 48_000)
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", "source.wav", "-f", "webm", "clip.wav"]
    subprocess.run(command, check=True, cwd=tmp_path)
    clip = measure(tmp_path / "clip.wav")[0]
    assert (clip.subtype, clip.seconds) == ("WEBM", pytest.approx(1.0, abs=0.05))


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac", "clip.ogg", "clip.mp3"])
def test_the_hash_is_that_of_the_manifest(name, measured, tone, tmp_path):
    assert measured(tone(300.0, 1.0), name=name).sha256 == read_audio(tmp_path / name).sha256


def test_peak_and_dc_offset_are_those_of_the_samples(measured, tone):
    clip = measured(tone(200.0, 1.0, level=0.25) - np.float32(0.125), subtype="FLOAT")
    assert clip.peak == pytest.approx(0.375, abs=1e-3)
    assert clip.dc_offset == pytest.approx(-0.125, abs=1e-4)


def test_a_dc_offset_in_one_channel_is_not_averaged_away(measured, tone):
    left, right = tone(200.0, 1.0, level=0.25) + np.float32(0.1), tone(200.0, 1.0, level=0.25) - np.float32(0.1)
    assert abs(measured(np.stack([left, right], axis=1), subtype="FLOAT").dc_offset) == pytest.approx(0.1, abs=1e-4)


def test_a_tone_beyond_full_scale_is_clipped_in_runs(measured, tone):
    clip = measured(np.clip(tone(100.0, 1.0, level=2.0), -1, 1))
    # |2 sin| >= 1 for two thirds of each half wave of 80 samples
    assert clip.longest_run == pytest.approx(53, abs=1)
    assert clip.full_scale == pytest.approx(16_000 * 2 / 3, rel=0.02)
    assert clip.is_clipped


def test_one_sample_at_full_scale_is_a_normalised_peak_not_clipping(measured, tone):
    wave = tone(100.0, 1.0, level=0.5)
    wave[40] = 1.0
    clip = measured(wave)
    assert (clip.full_scale, clip.is_clipped) == (1, False)


def test_full_scale_of_8_bits_is_lower(measured, tone):
    assert measured(np.clip(tone(100.0, 1.0, level=2.0), -1, 1), subtype="PCM_U8").is_clipped
    assert measured(np.clip(tone(100.0, 1.0, level=2.0), -1, 1), 8000, subtype="ULAW").is_clipped


def test_runs_are_counted_in_each_channel():
    left, right = np.zeros(10, np.float32), np.zeros(10, np.float32)
    left[[0, 1, 2]], right[[2, 3, 8, 9]] = 1.0, -1.0
    assert measure_full_scale_runs(np.stack([left, right], axis=1), 1.0) == (7, 3)
    assert measure_full_scale_runs(np.zeros((10, 2), np.float32), 1.0) == (0, 0)


def test_silence_is_the_share_of_pauses(tone):
    wave = np.concatenate([tone(200.0, 1.0), np.zeros(3 * 16_000, np.float32)])
    assert estimate_silence_and_snr(wave)[0] == pytest.approx(0.75, abs=0.01)
    assert estimate_silence_and_snr(tone(200.0, 1.0))[0] == 0.0


@pytest.mark.parametrize("snr_db", [10, 20, 40])
def test_speech_over_noise_is_what_was_mixed(snr_db, tone):
    wave = np.concatenate([tone(200.0, 2.0), np.zeros(32_000, np.float32)])
    power = 0.5**2 / 2 * 10 ** (-snr_db / 10)
    noisy = wave + np.random.default_rng(0).normal(0, np.sqrt(power), len(wave)).astype(np.float32)
    assert estimate_silence_and_snr(noisy)[1] == pytest.approx(snr_db, abs=1.5)


def test_a_gain_changes_neither_silence_nor_the_ratio_of_speech_to_noise(tone):
    wave = np.concatenate([tone(200.0, 1.0), 0.01 * tone(1000.0, 1.0)])
    assert estimate_silence_and_snr(wave / 8) == pytest.approx(estimate_silence_and_snr(wave), rel=1e-3)


def test_a_part_of_a_file_is_measured_by_itself(tone, tmp_path):
    loud, soft = tone(200.0, 1.0, level=0.8), tone(200.0, 1.0, level=0.1)
    soundfile.write(tmp_path / "long.wav", np.concatenate([loud, soft]), 16_000, subtype="FLOAT")
    clip, _ = measure(tmp_path / "long.wav", 1.0, 2.0)
    assert (clip.peak, clip.seconds) == pytest.approx((0.1, 1.0), rel=1e-3)
    assert clip.sha256 == read_audio(tmp_path / "long.wav", 1.0, 2.0).sha256


def test_a_damaged_file_is_refused_with_the_reason(tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    with pytest.raises(BadAudio, match="cannot be decoded"):
        measure(tmp_path / "clip.wav")
