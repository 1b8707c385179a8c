"""One way from a file to a mono waveform at 16 kHz, and a reason for every file that is not speech."""

import io
import pickle
import struct

import numpy as np
import pytest
import soundfile

from ser_platform.corpora import audio
from ser_platform.corpora.audio import AUDIO_SUFFIXES, read_audio
from ser_platform.errors import BadAudio


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES))
def test_every_format_that_is_listed_can_be_read(suffix, tmp_path, tone):
    path = tmp_path / f"clip{suffix}"
    soundfile.write(path, tone(440.0, 1.0), 16_000)
    clip = read_audio(path)
    assert clip.waveform.dtype == np.float32
    assert clip.seconds == pytest.approx(1.0, abs=0.05)  # ogg and mp3 may pad
    middle = clip.waveform[4000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_samples_of_a_16_khz_wav_are_its_own(tmp_path, tone):
    wave = tone(440.0, 0.5)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "clip.wav").waveform, wave)


def test_two_channels_become_their_mean(tmp_path, tone):
    left, right = tone(200.0, 0.5, level=0.6), tone(500.0, 0.5, level=0.2)
    soundfile.write(tmp_path / "clip.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "clip.wav").waveform, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("sample_rate", [8000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_to_the_same_duration_and_pitch(sample_rate, tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(1000.0, 1.0, sample_rate), sample_rate)
    waveform = read_audio(tmp_path / "clip.wav").waveform
    assert abs(len(waveform) - 16_000) <= 1
    spectrum = np.abs(np.fft.rfft(waveform[:16_000] * np.hanning(len(waveform[:16_000]))))
    assert spectrum.argmax() == pytest.approx(1000, abs=1)  # bins of 1 Hz


def test_what_lies_above_8_khz_is_filtered_out(tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(12_000.0, 1.0, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "clip.wav").waveform[1000:-1000]).max() < 1e-3


def test_a_part_is_cut_by_its_times(tmp_path, tone):
    wave = tone(440.0, 1.0)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "clip.wav", 0.25, 0.75).waveform, wave[4000:12_000])


def test_a_part_may_end_beyond_the_file(tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0), 16_000)
    assert read_audio(tmp_path / "clip.wav", 0.5, 9.0).seconds == 0.5


def test_the_digest_is_of_the_samples_not_of_the_container(tmp_path, tone):
    wave = (tone(440.0, 0.5) * 32_767).astype(np.int16)
    for name in ("a.wav", "b.wav", "c.flac"):
        soundfile.write(tmp_path / name, wave, 16_000, subtype="PCM_16")
    soundfile.write(tmp_path / "other.wav", wave[::-1], 16_000, subtype="PCM_16")
    a, b, c, other = (read_audio(tmp_path / name).sha256 for name in ("a.wav", "b.wav", "c.flac", "other.wav"))
    assert a == b == c != other


def wav_bytes(samples: np.ndarray, subtype: str = "PCM_16", sample_rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, subtype=subtype, format="WAV")
    return buffer.getvalue()


def not_finite(bad: float) -> bytes:
    samples = np.full(8000, 0.1, np.float32)
    samples[4000] = bad
    return wav_bytes(samples, "FLOAT")


HALF_SECOND = np.sin(np.arange(8000) / 5).astype(np.float32) / 2
REFUSED = {
    "random bytes": (np.random.default_rng(0).bytes(4000), "cannot be decoded"),
    "an empty file": (b"", "cannot be decoded"),
    "text": (b"Eine Rede.\n" * 100, "cannot be decoded"),
    "a wav whose header says more": (wav_bytes(HALF_SECOND)[:-6000], "is truncated: 10000 of 16000 bytes"),
    "a wav cut within its header": (wav_bytes(HALF_SECOND)[:30], "cannot be decoded"),
    "a wav without samples": (wav_bytes(HALF_SECOND[:0]), "0.000 s long; at least 0.1 s"),
    "NaN": (not_finite(np.nan), "not finite"),
    "infinity": (not_finite(np.inf), "not finite"),
    "digital silence": (wav_bytes(np.zeros(8000)), "is silent"),
    "all but silence": (wav_bytes(HALF_SECOND * 1e-5, "FLOAT"), "is silent"),
    "a hundredth of a second": (wav_bytes(HALF_SECOND[:160]), "0.010 s long; at least 0.1 s"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_speech_is_refused_with_the_reason(what, tmp_path):
    content, reason = REFUSED[what]
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(BadAudio) as refusal:
        read_audio(path)
    assert reason in refusal.value.reason
    assert refusal.value.path == str(path)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_half_of_a_compressed_file_is_refused(suffix, tmp_path):
    path = tmp_path / f"clip{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadAudio, match="truncated|cannot be decoded|0.000 s"):
        read_audio(path)


def test_a_missing_file_is_refused_as_such(tmp_path):
    with pytest.raises(BadAudio, match="no such file"):
        read_audio(tmp_path / "nowhere.wav")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(BadAudio, match="cannot be decoded"):
        read_audio(tmp_path)


def test_a_recording_is_too_long_for_an_utterance(tmp_path, tone, monkeypatch):
    monkeypatch.setattr(audio, "MAX_SECONDS", 0.5)
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0), 16_000)
    with pytest.raises(BadAudio, match="1 s long; at most"):
        read_audio(tmp_path / "clip.wav")
    assert read_audio(tmp_path / "clip.wav", 0.2, 0.6).seconds == pytest.approx(0.4, abs=1e-3)


def test_a_wav_from_a_pipe_declares_no_length_and_is_whole(tmp_path):
    content = bytearray(wav_bytes(HALF_SECOND))
    at = content.find(b"data")
    content[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "clip.wav").write_bytes(content)
    assert read_audio(tmp_path / "clip.wav").seconds == 0.5


def test_a_refusal_crosses_process_borders():
    refusal = pickle.loads(pickle.dumps(BadAudio("clip.wav", "is silent")))
    assert (str(refusal), refusal.path, refusal.reason) == ("clip.wav: is silent", "clip.wav", "is silent")
