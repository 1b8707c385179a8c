"""Reading speech: one way from a file to a mono waveform, and plain refusals of what is not speech.

Nothing is ever replaced by zeros: a file that cannot be used raises `BadAudio` with the reason. What a header tells is
judged before any audio is read, so that neither a three-hour recording nor a header of nonsense costs memory or time.
"""

import hashlib
import itertools
import math
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_platform.corpora.audio.containers import is_complete_ogg, scan_mp3_frames
from ser_platform.corpora.audio.video import VIDEO_SUFFIXES, decode_video
from ser_platform.errors import BadAudio, CorpusError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"})
SAMPLE_RATE = 16_000  # Hz; what every model here hears
DECODE_POLICY = "mono-mean soxr-HQ 16000 Hz float32 v1"  # part of every cache key: change it when the samples change
MIN_CLIP_S = 0.1  # shorter holds no syllable
MAX_CLIP_S = 120.0  # longer is a recording, not an utterance
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz; below there is no speech, above no recorder
MAX_CHANNELS = 32
SILENCE_PEAK = 1e-4  # peak; -80 dB full scale
MAX_PEAK = 100.0  # peak; full scale is 1, lossy codecs go a little beyond, integers stored as floats far
# libsndfile notes what a header declares and what is there, and reads on as if nothing were missing (WAV, AIFF, AU,
# CAF, W64, RF64). The size in a WAV's `RIFF` is not asked: it is wrong in many sound files.
DECLARED = re.compile(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
# Bytes. A WAV written to a pipe declares this much or more for want of knowing (SoX: 0x7ffff000). So long a clip would
# be refused anyway.
PIPED_WAV_BYTES = 0x7FFF_0000
UNKNOWN_LENGTH = 2**63 - 1  # samples; what libsndfile says of a FLAC that was written to a pipe
PADDED_FRAMES = 4  # by so many frames may the length of an MP3 and its frames differ: codec delay and padding


def list_audio_files(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> list[Path]:
    """Return the audio files under `root`, sorted; links are followed.

    What systems hide (`._x.wav`, `__MACOSX`) is none.

    Raises:
        CorpusError: a folder cannot be read, or links go round in a circle.
    """
    found: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=_refuse_unread, followlinks=True):
        if os.path.realpath(folder) in _resolve_parents(folder, root):
            raise CorpusError(f"{folder}: links go round in a circle")
        folders[:] = [name for name in folders if not _is_hidden(name)]
        found += (
            Path(folder, name) for name in files if not _is_hidden(name) and Path(name).suffix.lower() in suffixes
        )
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _resolve_parents(folder: str, root: Path) -> set[str]:
    """Return the real places of the folders between `root` and `folder`."""
    parents = itertools.takewhile(lambda path: path.is_relative_to(root), Path(folder).parents)
    return {os.path.realpath(parent) for parent in parents}


def _refuse_unread(error: OSError) -> None:
    raise CorpusError(f"{error.filename} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Audio:
    """One decoded clip, mono: samples `(n_samples,)` at the file's own `sample_rate` in Hz.

    `sha256` is of the samples as decoded, before they were mixed to mono; empty where they come from no file.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    sha256: str = ""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate

    @cached_property
    def waveform(self) -> NDArray[np.float32]:
        """The clip at `SAMPLE_RATE`."""
        return self.resample(SAMPLE_RATE)

    def resample(self, sample_rate: int) -> NDArray[np.float32]:
        """Return the clip at another rate in Hz, `(n_samples,)`."""
        if sample_rate == self.sample_rate:
            return self.samples
        resampled = soxr.resample(self.samples, self.sample_rate, sample_rate, quality="HQ")
        return np.ascontiguousarray(resampled, dtype=np.float32)


def read_audio(path: Path, start_s: float | None = None, end_s: float | None = None) -> Audio:
    """Decode a file (or its part from `start_s` to `end_s`) and mix it to mono.

    Raises:
        BadAudio: the file is unreadable, empty, truncated, not finite, silent, far too short or far too long.
        UserError: it is an mp4, and there is no ffmpeg.
    """
    samples, sample_rate = _decode(path, start_s, end_s)
    _refuse_unusable_samples(path, samples, sample_rate)
    digest = hashlib.sha256(f"{sample_rate} {samples.shape}".encode())
    digest.update(np.ascontiguousarray(samples).data)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    audio = Audio(np.ascontiguousarray(mono, dtype=np.float32), sample_rate, digest.hexdigest())
    if (samples.shape[1] > 1 or sample_rate != SAMPLE_RATE) and _find_peak(audio.waveform) < SILENCE_PEAK:
        raise BadAudio(path, f"is silent as mono at {SAMPLE_RATE} Hz: its channels cancel, or all of it is ultrasound")
    return audio


def _refuse_unusable_samples(path: Path, samples: NDArray[np.float32], sample_rate: int) -> None:
    seconds = len(samples) / sample_rate
    if seconds < MIN_CLIP_S:
        raise BadAudio(path, f"{seconds:.3f} s long; at least {MIN_CLIP_S} s are needed")
    peak = _find_peak(samples)
    if not math.isfinite(peak):
        raise BadAudio(path, "holds samples that are not finite")
    if peak < SILENCE_PEAK:
        raise BadAudio(path, "is silent")
    if peak > MAX_PEAK:
        raise BadAudio(path, f"has samples up to {peak:.3g}, where full scale is 1")


def _find_peak(samples: NDArray[np.float32]) -> float:
    """Return the largest magnitude; NaN where a sample is."""
    return float(np.maximum(samples.max(), -samples.min()))


def _decode(path: Path, start_s: float | None, end_s: float | None) -> tuple[NDArray[np.float32], int]:
    """Return the samples `(n_samples, n_channels)` of a file or a part of it, and their rate in Hz."""
    _refuse_no_file(path)
    first_s, last_s = start_s or 0.0, math.inf if end_s is None else end_s
    if not (0 <= first_s <= last_s and first_s < math.inf):  # NaN compares as false
        raise BadAudio(path, f"has no part from {start_s} to {end_s} s")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        samples, sample_rate = decode_video(path, first_s, min(last_s - first_s, MAX_CLIP_S + 1))
        _refuse_too_long(path, len(samples) / sample_rate)
        return samples, sample_rate
    try:
        with soundfile.SoundFile(path) as file:
            return _read_samples(file, path, first_s, last_s), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", str(error))
        if not os.access(path, os.R_OK):
            reason = "permission denied"
        raise BadAudio(path, f"cannot be decoded ({reason})") from error
    except (TypeError, UnicodeError) as error:  # soundfile's words for *.raw, and for names in another encoding
        raise BadAudio(path, f"cannot be opened ({error})") from error


def _refuse_no_file(path: Path) -> None:
    """Refuse what would fail without a word, or wait for ever, as a FIFO does."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise BadAudio(path, "is a broken link" if path.is_symlink() else "no such file") from error
    except (OSError, ValueError) as error:
        raise BadAudio(path, f"cannot be opened ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(mode):
        raise BadAudio(path, "is a folder" if stat.S_ISDIR(mode) else "is no file but a pipe, socket or device")


def _read_samples(file: soundfile.SoundFile, path: Path, first_s: float, last_s: float) -> NDArray[np.float32]:
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise BadAudio(path, f"says {file.samplerate} Hz; valid are {MIN_RATE} to {MAX_RATE} Hz")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise BadAudio(path, f"says {file.channels} channels; valid are 1 to {MAX_CHANNELS}")
    frames, slack = _measure_length(file, path)
    first = int(first_s * file.samplerate)
    last = frames if math.isinf(last_s) else min(int(last_s * file.samplerate), frames)
    _refuse_too_long(path, (last - first) / file.samplerate)
    # GSM and G.721 cannot seek at all. A whole file is sought too: an MP3's last bits depend on it.
    if first or file.seekable():
        file.seek(min(first, file.frames))
    samples: NDArray[np.float32] = file.read(max(last - first, 0), dtype="float32", always_2d=True)
    if len(samples) < last - first - slack:
        raise BadAudio(path, f"is truncated: {len(samples)} of {last - first} samples")
    return samples


def _refuse_too_long(path: Path, seconds: float) -> None:
    if seconds > MAX_CLIP_S:
        raise BadAudio(path, f"{seconds:.0f} s long; at most {MAX_CLIP_S:.0f} s")


def _measure_length(file: soundfile.SoundFile, path: Path) -> tuple[int, int]:
    """Return how many samples a whole file has, and how many of them may be missing all the same.

    Raises:
        BadAudio: the file is cut, or does not say how long it is.
    """
    for declared, present in DECLARED.findall(file.extra_info):
        if int(present) < int(declared) < PIPED_WAV_BYTES:
            raise BadAudio(path, f"is truncated: {present} of {declared} bytes of audio")
    if file.frames == UNKNOWN_LENGTH:
        raise BadAudio(path, "does not say how long it is, as written to a pipe; write it anew: ffmpeg -i OLD NEW.flac")
    if file.format == "OGG" and not is_complete_ogg(path):
        raise BadAudio(path, "is truncated: the last page does not end the stream")
    if file.format == "MP3":
        return _measure_mp3_length(file, path)
    return file.frames, 0


def _measure_mp3_length(file: soundfile.SoundFile, path: Path) -> tuple[int, int]:
    found = scan_mp3_frames(path, MAX_CLIP_S + 1)
    if found is None:
        return file.frames, 0
    slack = PADDED_FRAMES * found.frame_samples
    if found.is_cut:
        raise BadAudio(path, "is truncated: its last frame is cut, or frames that its header declares are missing")
    if file.frames < found.samples - slack:  # libsndfile would read that much and stop
        seconds, there = file.frames / file.samplerate, found.samples / file.samplerate
        raise BadAudio(path, f"seems {seconds:.1f} s long by its header but holds {there:.1f} s; write it anew")
    if found.declared_frames or not found.has_ended:
        return file.frames, 0
    return min(file.frames, found.samples), slack  # libsndfile's own length is a guess from the first frame
