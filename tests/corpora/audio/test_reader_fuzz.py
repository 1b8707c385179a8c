"""Damaged files are read as finite, audible samples or refused with a reason."""

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
ROUNDS = 120  # files per seed
MAX_SECONDS = 5.0  # per file; reading one takes milliseconds


def encode(form, subtype, sample_rate, channels):
    samples = np.random.default_rng(0).normal(0, 0.1, (sample_rate // 4, channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format=form, subtype=subtype)
    return buffer.getvalue()


def truncate(content, rng):
    return content[: rng.integers(len(content))]


def truncate_within_the_header(content, rng):
    return content[: rng.integers(HEADER)]


def change_header_bytes(content, rng):
    at = rng.integers(0, HEADER, rng.integers(1, 5))
    return write_random_bytes(content, at, rng)


def change_bytes(content, rng):
    return write_random_bytes(content, rng.integers(0, len(content), rng.integers(1, 30)), rng)


def write_random_bytes(content, places, rng):
    content = bytearray(content)
    for at in places:
        content[at] = rng.integers(256)
    return bytes(content)


def write_number_in_the_header(content, rng):
    at = rng.integers(HEADER)
    return content[:at] + struct.pack("<I", ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]) + content[at + 4 :]


def remove_a_piece(content, rng):
    at = rng.integers(len(content))
    return content[:at] + content[at + rng.integers(1, 200) :]


def insert_junk(content, rng):
    at = rng.integers(len(content))
    return content[:at] + rng.bytes(rng.integers(1, 200)) + content[at:]


def append_zeros(content, rng):
    at = rng.integers(len(content))
    return content[:at] + bytes(len(content) - at)


def replace_everything(content, rng):
    return content[:4] + rng.bytes(rng.integers(1, 2000))


DAMAGES = (
    truncate,
    truncate_within_the_header,
    change_header_bytes,
    change_bytes,
    write_number_in_the_header,
    remove_a_piece,
    insert_junk,
    append_zeros,
    replace_everything,
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_file_is_read_or_refused(seed, tmp_path):
    whole, rng, path = encode(*SEEDS[seed]), np.random.default_rng(list(seed.encode())), tmp_path / "clip.wav"
    refused = 0
    for n in range(ROUNDS):
        damage = DAMAGES[n % len(DAMAGES)]
        path.write_bytes(damage(whole, rng))
        began = time.perf_counter()
        outcome = read_or_refuse(path)
        assert time.perf_counter() - began < MAX_SECONDS, damage.__name__
        if isinstance(outcome, str):
            refused += 1
            assert outcome and "\n" not in outcome
        else:
            assert outcome.waveform.dtype == np.float32 and outcome.waveform.ndim == 1
            assert np.isfinite(outcome.waveform).all() and np.abs(outcome.waveform).max() >= SILENCE_PEAK
    assert refused > ROUNDS / 4  # the truncated files at least


def read_or_refuse(path):
    """Return the audio or the reason of the refusal; any other error fails the test."""
    try:
        return read_audio(path)
    except BadAudio as bad:
        return bad.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_an_undamaged_file_is_read(seed, tmp_path):
    (tmp_path / "clip.wav").write_bytes(encode(*SEEDS[seed]))
    assert read_audio(tmp_path / "clip.wav").duration_s == pytest.approx(0.25, abs=0.07)
