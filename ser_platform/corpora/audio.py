"""Reading speech: one way from a file to a mono waveform, and plain refusals of what is not speech.

Nothing is ever replaced by zeros: a file that cannot be used raises `BadAudio` with the reason.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_platform.errors import BadAudio

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg"})
SAMPLE_RATE = 16_000  # Hz; what every model here hears
DECODE_POLICY = "mono-mean soxr-HQ 16000 Hz float32 v1"  # part of every cache key: change it when the samples change
MIN_SECONDS = 0.1  # shorter holds no syllable
MAX_SECONDS = 120.0  # longer is a recording, not an utterance
SILENCE = 1e-4  # peak; -80 dB full scale
CUT_WAV = re.compile(
    r"data : (\d+) \(should be (\d+)\)"
)  # libsndfile notes it, and reads on as if nothing were missing
STREAMED = 0x7FFFFFFF  # bytes; a WAV written to a pipe declares this much or more, for want of knowing


def audio_below(root: Path) -> list[Path]:
    """Return the audio files under `root`, sorted; what systems hide (`._x.wav`, `__MACOSX`) is none."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)
    )


@dataclass(frozen=True)
class Audio:
    """One decoded clip: waveform `(n_samples,)` at `SAMPLE_RATE`; `sha256` is of the samples as decoded."""

    waveform: NDArray[np.float32]
    sha256: str

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


def read_audio(path: Path, start_s: float | None = None, end_s: float | None = None) -> Audio:
    """Decode a file (or its part from `start_s` to `end_s`), mix it to mono and resample it.

    Raises:
        BadAudio: the file is unreadable, empty, truncated, not finite, silent, far too short or far too long.
    """
    samples, sample_rate = _decode(path, start_s, end_s)
    seconds = len(samples) / sample_rate
    if seconds < MIN_SECONDS:
        raise BadAudio(path, f"{seconds:.3f} s long; at least {MIN_SECONDS} s are needed")
    if not np.isfinite(samples).all():
        raise BadAudio(path, "holds samples that are not finite")
    if np.abs(samples).max() < SILENCE:
        raise BadAudio(path, "is silent")
    digest = hashlib.sha256(f"{sample_rate} {samples.shape}".encode())
    digest.update(np.ascontiguousarray(samples).data)
    waveform = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if sample_rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, sample_rate, SAMPLE_RATE, quality="HQ")
    return Audio(np.ascontiguousarray(waveform, dtype=np.float32), digest.hexdigest())


def _decode(path: Path, start_s: float | None, end_s: float | None) -> tuple[NDArray[np.float32], int]:
    if not path.exists():
        raise BadAudio(path, "no such file")
    try:
        with soundfile.SoundFile(path) as file:
            if (cut := CUT_WAV.search(file.extra_info)) and int(cut[1]) < STREAMED:
                raise BadAudio(path, f"is truncated: {cut[2]} of {cut[1]} bytes of audio")
            first = int((start_s or 0) * file.samplerate)
            last = file.frames if end_s is None else min(int(end_s * file.samplerate), file.frames)
            if (last - first) / file.samplerate > MAX_SECONDS:
                raise BadAudio(path, f"{(last - first) / file.samplerate:.0f} s long; at most {MAX_SECONDS:.0f} s")
            file.seek(min(first, file.frames))
            samples = file.read(max(last - first, 0), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadAudio(path, f"cannot be decoded ({getattr(error, 'error_string', error)})") from error
    if len(samples) < last - first:
        raise BadAudio(path, f"is truncated: {len(samples)} of {last - first} samples")
    return samples, file.samplerate
