"""Files are decoded into mono waveforms at 16 kHz, or refused with a reason."""

import io
import os
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.audio import reader
from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, read_audio
from ser_platform.errors import BadAudio


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES))
def test_every_format_that_is_listed_can_be_read(suffix, tmp_path, tone):
    path = tmp_path / f"clip{suffix}"
    kind = {".opus": ("OGG", "OPUS"), ".aif": ("AIFF", "PCM_16")}.get(suffix, (None, None))
    soundfile.write(path, tone(440.0, 1.0), 16_000, format=kind[0], subtype=kind[1])
    clip = read_audio(path)
    assert clip.waveform.dtype == np.float32
    assert clip.duration_s == pytest.approx(1.0, abs=0.05)  # ogg and mp3 may pad
    middle = clip.waveform[4000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_samples_of_a_16_khz_wav_are_unchanged(tmp_path, tone):
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


def test_frequencies_above_8_khz_are_filtered_out(tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(12_000.0, 1.0, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "clip.wav").waveform[1000:-1000]).max() < 1e-3


def test_a_part_is_cut_by_its_times(tmp_path, tone):
    wave = tone(440.0, 1.0)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "clip.wav", 0.25, 0.75).waveform, wave[4000:12_000])


def test_a_part_may_end_beyond_the_file(tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0), 16_000)
    assert read_audio(tmp_path / "clip.wav", 0.5, 9.0).duration_s == 0.5


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


def make_not_finite(bad: float) -> bytes:
    samples = np.full(8000, 0.1, np.float32)
    samples[4000] = bad
    return wav_bytes(samples, "FLOAT")


def declare(content: bytes, offset: int, code: str, value: int) -> bytes:
    """Return a WAV with `value` at `offset` of its header."""
    return content[:offset] + struct.pack(code, value) + content[offset + struct.calcsize(code) :]


HALF_SECOND = np.sin(np.arange(8000) / 5).astype(np.float32) / 2
WAV = wav_bytes(HALF_SECOND)
ULTRASOUND = np.hanning(96_000) * np.sin(2 * np.pi * 30_000 / 96_000 * np.arange(96_000))  # one second of 30 kHz
CHANNELS, RATE, DATA_SIZE = 22, 24, 40  # offsets in a plain WAV header
REFUSED = {
    "random bytes": (np.random.default_rng(0).bytes(4000), "cannot be decoded"),
    "an empty file": (b"", "cannot be decoded"),
    "text": (b"Eine Rede.\n" * 100, "cannot be decoded"),
    "a wav whose header states more": (WAV[:-6000], "is truncated: 10000 of 16000 bytes"),
    "a wav cut within its header": (WAV[:30], "cannot be decoded"),
    "a wav without samples": (wav_bytes(HALF_SECOND[:0]), "0.000 s long; at least 0.1 s"),
    "a wav of 1 Hz": (declare(WAV, RATE, "<I", 1), "has a sample rate of 1 Hz; valid are 4000 to 192000 Hz"),
    "a wav of 2 GHz": (declare(WAV, RATE, "<I", 2_000_000_000), "has a sample rate of 2000000000 Hz"),
    "a wav of 1000 channels": (declare(WAV, CHANNELS, "<H", 1000), "channels"),
    "a wav of no channels": (declare(WAV, CHANNELS, "<H", 0), "cannot be decoded"),
    "a wav of a gigabyte": (declare(WAV, DATA_SIZE, "<I", 10**9), "is truncated: 16000 of 1000000000 bytes"),
    "NaN": (make_not_finite(np.nan), "not finite"),
    "infinity": (make_not_finite(np.inf), "not finite"),
    "minus infinity": (make_not_finite(-np.inf), "not finite"),
    "integers stored as floats": (wav_bytes(HALF_SECOND * 32_767, "FLOAT"), "samples up to 1.64e+04"),
    "digital silence": (wav_bytes(np.zeros(8000)), "is silent"),
    "all but silence": (wav_bytes(HALF_SECOND * 1e-5, "FLOAT"), "is silent"),
    "channels that cancel": (wav_bytes(np.stack([HALF_SECOND, -HALF_SECOND], 1), "FLOAT"), "is silent as mono"),
    "ultrasound": (wav_bytes(ULTRASOUND, "FLOAT", 96_000), "is silent as mono at 16000 Hz"),
    "a hundredth of a second": (wav_bytes(HALF_SECOND[:160]), "0.010 s long; at least 0.1 s"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_without_usable_speech_is_refused_with_the_reason(what, tmp_path):
    content, reason = REFUSED[what]
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(BadAudio) as refusal:
        read_audio(path)
    assert reason in refusal.value.reason
    assert refusal.value.path == str(path)


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.77, 0.97, 0.999])
@pytest.mark.parametrize("container", ["wav", "aiff", "flac", "ogg", "opus", "mp3"])
def test_a_truncated_file_is_refused(container, kept, tmp_path):
    path = tmp_path / "clip.wav"  # the content decides the format, not the name
    samples = np.random.default_rng(0).normal(0, 0.1, 48_000)
    form, subtype = ("OGG", "OPUS") if container == "opus" else (container.upper(), None)
    soundfile.write(path, samples, 16_000, format=form, subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match="truncated|cannot be decoded|0.000 s"):
        read_audio(path)


def test_an_ogg_that_ends_in_zeros_is_refused(tmp_path, tone):
    path = tmp_path / "clip.ogg"
    soundfile.write(path, tone(440.0, 3.0), 16_000)
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + bytes(half))
    with pytest.raises(BadAudio, match="the last page does not end the stream|malformed"):
        read_audio(path)


def write_mp3_without_length(path: Path, samples: np.ndarray, bitrate: str) -> None:
    """Write an MP3 without its first frame, which states the length: encoders write such files to a pipe."""
    soundfile.write(path, samples, 16_000, compression_level=0.5, bitrate_mode=bitrate)
    content = path.read_bytes()
    path.write_bytes(content[content.index(content[:2], 4) :])


def test_an_mp3_without_a_stated_length_is_read_to_its_end(tmp_path, tone):
    write_mp3_without_length(tmp_path / "clip.mp3", tone(440.0, 3.0), "CONSTANT")
    waveform = read_audio(tmp_path / "clip.mp3").waveform
    assert 3.0 <= len(waveform) / 16_000 < 3.2
    loudness = np.sqrt(np.mean(waveform[40_000:46_000] ** 2))
    assert loudness == pytest.approx(0.5 / np.sqrt(2), rel=0.06)  # LAME scales by 0.95


def test_an_mp3_whose_length_is_estimated_too_short_is_refused(tmp_path):
    loud = np.random.default_rng(0).normal(0, 0.2, 32_000)
    write_mp3_without_length(tmp_path / "clip.mp3", np.concatenate([loud, 1e-4 * loud, 1e-4 * loud]), "VARIABLE")
    with pytest.raises(BadAudio, match="has .* s of audio, but its header states .* s"):
        read_audio(tmp_path / "clip.mp3")


def test_an_mp3_may_end_in_a_tag(tmp_path, tone):
    soundfile.write(tmp_path / "clip.mp3", tone(440.0, 1.0), 16_000)
    with (tmp_path / "clip.mp3").open("ab") as file:
        file.write(b"TAG" + bytes(125))
    assert read_audio(tmp_path / "clip.mp3").duration_s == 1.0


def test_a_flac_without_a_stated_length_is_refused_with_a_hint(tmp_path, tone):
    path = tmp_path / "clip.flac"
    soundfile.write(path, tone(440.0, 1.0), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(BadAudio, match="does not state its length.*convert it"):
        read_audio(path)


def test_an_aiff_with_the_suffix_of_a_wav_is_read(tmp_path, tone):
    wave = (tone(440.0, 0.5) * 32_767).astype(np.int16)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, format="AIFF")
    soundfile.write(tmp_path / "same.wav", wave, 16_000)
    assert read_audio(tmp_path / "clip.wav").sha256 == read_audio(tmp_path / "same.wav").sha256


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
def test_integers_of_every_width_are_read_at_full_scale_one(subtype, bits, tmp_path, tone):
    wave = tone(440.0, 0.5)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype=subtype)
    np.testing.assert_allclose(read_audio(tmp_path / "clip.wav").waveform, wave, atol=2.0 ** (1 - bits) + 1e-7)


@pytest.mark.parametrize(("subtype", "sample_rate"), [("GSM610", 8000), ("G721_32", 8000)])
def test_codecs_that_cannot_seek_are_read(subtype, sample_rate, tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0, sample_rate), sample_rate, subtype=subtype)
    assert read_audio(tmp_path / "clip.wav").duration_s == pytest.approx(1.0, abs=0.05)


def test_a_broken_link_is_refused(tmp_path):
    (tmp_path / "clip.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(BadAudio, match="is a broken link"):
        read_audio(tmp_path / "clip.wav")


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "clip.wav")
    with pytest.raises(BadAudio, match="pipe, socket or device"):
        read_audio(tmp_path / "clip.wav")


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("clip.wav")  # in tmp_path: the whole path is longer than sockets allow
        with pytest.raises(BadAudio, match="pipe, socket or device"):
            read_audio(tmp_path / "clip.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path, tone):
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0), 16_000)
    (tmp_path / "clip.wav").chmod(0)
    with pytest.raises(BadAudio, match="permission denied"):
        read_audio(tmp_path / "clip.wav")


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "a\0b.wav", "clip.wav/clip.wav"])
def test_an_impossible_file_name_is_refused(name, tmp_path):
    (tmp_path / "clip.wav").touch()
    with pytest.raises(BadAudio, match="cannot be opened|no such file"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.raw", os.fsdecode(b"caf\xe9.wav")])
def test_a_name_that_soundfile_cannot_open_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(WAV)
    with pytest.raises(BadAudio, match="cannot be opened"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("part", [(np.nan, 1.0), (0.0, np.nan), (-1.0, 1.0), (2.0, 1.0), (np.inf, None)])
def test_invalid_times_are_refused(part, tmp_path):
    (tmp_path / "clip.wav").write_bytes(WAV)
    with pytest.raises(BadAudio, match="has no part from"):
        read_audio(tmp_path / "clip.wav", *part)


def test_a_part_beyond_the_end_is_refused(tmp_path):
    (tmp_path / "clip.wav").write_bytes(WAV)
    with pytest.raises(BadAudio, match="s long; at least"):
        read_audio(tmp_path / "clip.wav", 5.0, 6.0)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadAudio, match="no such file"):
        read_audio(tmp_path / "nowhere.wav")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(BadAudio, match="is a folder"):
        read_audio(tmp_path)


def test_a_recording_of_more_than_two_minutes_is_refused(tmp_path, tone, monkeypatch):
    monkeypatch.setattr(reader, "MAX_CLIP_S", 0.5)
    soundfile.write(tmp_path / "clip.wav", tone(440.0, 1.0), 16_000)
    with pytest.raises(BadAudio, match="1 s long; at most"):
        read_audio(tmp_path / "clip.wav")
    assert read_audio(tmp_path / "clip.wav", 0.2, 0.6).duration_s == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("n_bytes", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])  # ffmpeg, others, SoX
def test_a_wav_from_a_pipe_with_an_unknown_length_is_read(n_bytes, tmp_path):
    (tmp_path / "clip.wav").write_bytes(declare(WAV, DATA_SIZE, "<I", n_bytes))
    assert read_audio(tmp_path / "clip.wav").duration_s == 0.5


@pytest.mark.timeout(20)
def test_three_hours_are_refused_before_audio_is_read(tmp_path, monkeypatch):
    n_bytes = 3 * 3600 * 32_000
    with (tmp_path / "clip.wav").open("wb") as file:
        file.write(declare(declare(WAV[:44], DATA_SIZE, "<I", n_bytes), 4, "<I", n_bytes + 36))
        file.truncate(44 + n_bytes)  # sparse: it takes no disk space
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    with pytest.raises(BadAudio, match="10800 s long; at most 120 s"):
        read_audio(tmp_path / "clip.wav")


def test_a_refusal_can_be_pickled():
    refusal = pickle.loads(pickle.dumps(BadAudio("clip.wav", "is silent")))
    assert (str(refusal), refusal.path, refusal.reason) == ("clip.wav: is silent", "clip.wav", "is silent")
