"""Whatever a file holds: it is speech with finite samples that can be heard, or it is refused with a reason."""

import io
import struct
import time

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.audio.reader import SILENCE_PEAK, read_audio
from ser_platform.errors import BadAudio

SEEDS = {  # container, subtype, sample rate, channels
    "16 bit": ("WAV", "PCM_16", 16_000, 1),
    "8 bit stereo": ("WAV", "PCM_U8", 8000, 2),
    "24 bit": ("WAV", "PCM_24", 96_000, 1),
    "32 bit": ("WAV", "PCM_32", 44_100, 2),
    "float": ("WAV", "FLOAT", 16_000, 1),
    "double": ("WAV", "DOUBLE", 48_000, 1),
    "telephone": ("WAV", "ULAW", 8000, 1),
    "adpcm": ("WAV", "IMA_ADPCM", 16_000, 1),
    "extensible": ("WAVEX", "PCM_16", 16_000, 2),
    "rf64": ("RF64", "PCM_16", 16_000, 1),
    "w64": ("W64", "PCM_16", 16_000, 1),
    "aiff": ("AIFF", "PCM_16", 16_000, 1),
    "float aiff": ("AIFF", "FLOAT", 22_050, 2),
    "caf": ("CAF", "PCM_16", 16_000, 1),
    "flac": ("FLAC", "PCM_16", 16_000, 1),
    "24 bit flac": ("FLAC", "PCM_24", 48_000, 2),
    "vorbis": ("OGG", "VORBIS", 16_000, 1),
    "opus": ("OGG", "OPUS", 48_000, 1),
    "mp3": ("MP3", "MPEG_LAYER_III", 16_000, 1),
}
ODD_NUMBERS = (0, 1, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
HEADER = 100  # bytes
ROUNDS = 120  # files a seed
PATIENCE_S = 5.0  # a file; any takes milliseconds


def encoded(form, subtype, sample_rate, channels):
    samples = np.random.default_rng(0).normal(0, 0.1, (sample_rate // 4, channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format=form, subtype=subtype)
    return buffer.getvalue()


def cut(content, rng):
    return content[: rng.integers(len(content))]


def cut_within_the_header(content, rng):
    return content[: rng.integers(HEADER)]


def header_bytes_changed(content, rng):
    at = rng.integers(0, HEADER, rng.integers(1, 5))
    return changed(content, at, rng)


def bytes_changed(content, rng):
    return changed(content, rng.integers(0, len(content), rng.integers(1, 30)), rng)


def changed(content, places, rng):
    content = bytearray(content)
    for at in places:
        content[at] = rng.integers(256)
    return bytes(content)


def odd_number_in_the_header(content, rng):
    at = rng.integers(HEADER)
    return content[:at] + struct.pack("<I", ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]) + content[at + 4 :]


def piece_missing(content, rng):
    at = rng.integers(len(content))
    return content[:at] + content[at + rng.integers(1, 200) :]


def junk_inside(content, rng):
    at = rng.integers(len(content))
    return content[:at] + rng.bytes(rng.integers(1, 200)) + content[at:]


def zeros_at_the_end(content, rng):
    at = rng.integers(len(content))
    return content[:at] + bytes(len(content) - at)


def no_audio_at_all(content, rng):
    return content[:4] + rng.bytes(rng.integers(1, 2000))


DAMAGES = (
    cut,
    cut_within_the_header,
    header_bytes_changed,
    bytes_changed,
    odd_number_in_the_header,
    piece_missing,
    junk_inside,
    zeros_at_the_end,
    no_audio_at_all,
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_file_is_speech_or_is_refused(seed, tmp_path):
    whole, rng, path = encoded(*SEEDS[seed]), np.random.default_rng(list(seed.encode())), tmp_path / "clip.wav"
    refused = 0
    for n in range(ROUNDS):
        damage = DAMAGES[n % len(DAMAGES)]
        path.write_bytes(damage(whole, rng))
        began = time.perf_counter()
        outcome = read_or_refuse(path)
        assert time.perf_counter() - began < PATIENCE_S, damage.__name__
        if isinstance(outcome, str):
            refused += 1
            assert outcome and "\n" not in outcome
        else:
            assert outcome.waveform.dtype == np.float32 and outcome.waveform.ndim == 1
            assert np.isfinite(outcome.waveform).all() and np.abs(outcome.waveform).max() >= SILENCE_PEAK
    assert refused > ROUNDS / 4  # at least what was cut


def read_or_refuse(path):
    """Return audio, or the reason of a refusal; anything else is a failure of the test."""
    try:
        return read_audio(path)
    except BadAudio as bad:
        return bad.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_not_damaged_is_read(seed, tmp_path):
    (tmp_path / "clip.wav").write_bytes(encoded(*SEEDS[seed]))
    assert read_audio(tmp_path / "clip.wav").duration_s == pytest.approx(0.25, abs=0.07)
