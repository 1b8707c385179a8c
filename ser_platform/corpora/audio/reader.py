"""Decodes audio files into mono waveforms, and refuses files that contain no usable speech.

A file that cannot be used raises `BadAudio` with the reason; samples are never replaced by zeros. Headers are checked
before audio is read, so that a long recording or an invalid header takes neither memory nor time.
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
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_platform.corpora.audio.containers import is_complete_ogg, scan_mp3_frames
from ser_platform.corpora.audio.ffmpeg import FFMPEG_SUFFIXES, decode_with_ffmpeg, find_ffmpeg_format
from ser_platform.errors import BadAudio, CorpusError

# The files that the adapters of known corpora list; adding one may change the clips of a corpus.
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"})
# The files that are listed in folders of own recordings. A file is decoded by its content, whatever its suffix.
RECORDING_SUFFIXES = AUDIO_SUFFIXES | FFMPEG_SUFFIXES | {".aifc", ".au", ".oga", ".w64"}
SAMPLE_RATE = 16_000  # Hz; the input rate of every model
DECODE_POLICY = "mono-mean soxr-HQ 16000 Hz float32 v1"  # part of every cache key: change it when the samples change
MIN_CLIP_S = 0.1  # a shorter clip contains no syllable
MAX_CLIP_S = 120.0  # a longer file is a recording of several utterances
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz; the range of speech recordings
MAX_CHANNELS = 32
SILENCE_PEAK = 1e-4  # peak; -80 dB full scale
MAX_PEAK = 100.0  # peak; full scale is 1. Lossy codecs exceed it a little, integers stored as floats by far
# libsndfile reads a truncated WAV, AIFF, AU, CAF, W64 or RF64 without an error and notes the declared and the present
# bytes. The size in the `RIFF` header of a WAV is not compared: it is wrong in many intact files.
DECLARED = re.compile(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
# Bytes. A WAV that was written to a pipe declares this size or more (SoX: 0x7ffff000), for its length was unknown.
# A clip of that length would be refused anyway.
PIPED_WAV_BYTES = 0x7FFF_0000
UNKNOWN_LENGTH = 2**63 - 1  # samples; libsndfile's length of a FLAC that was written to a pipe
PADDED_FRAMES = 4  # by which the stated length of an MP3 may differ from its frames: codec delay and padding


def list_audio_files(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> list[Path]:
    """Return the files under `root` with one of `suffixes`, sorted; links are followed.

    Hidden files and folders (`._x.wav`, `__MACOSX`) are left out.

    Raises:
        CorpusError: a folder cannot be read, or links form a circle.
    """
    found: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=_refuse_unread, followlinks=True):
        if os.path.realpath(folder) in _resolve_parents(folder, root):
            raise CorpusError(f"{folder}: links form a circle")
        folders[:] = [name for name in folders if not _is_hidden(name)]
        found += (
            Path(folder, name) for name in files if not _is_hidden(name) and Path(name).suffix.lower() in suffixes
        )
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _resolve_parents(folder: str, root: Path) -> set[str]:
    """Return the resolved paths of the folders between `root` and `folder`."""
    parents = itertools.takewhile(lambda path: path.is_relative_to(root), Path(folder).parents)
    return {os.path.realpath(parent) for parent in parents}


def _refuse_unread(error: OSError) -> None:
    raise CorpusError(f"{error.filename} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Audio:
    """One decoded clip, mono: samples `(n_samples,)` at the file's own `sample_rate` in Hz.

    `sha256` is the digest of the decoded samples before the mix to mono; empty where they are from no file.
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
    """Return a file, or its part from `start_s` to `end_s`, decoded and mixed to mono.

    Raises:
        BadAudio: the file is unreadable, empty, truncated, not finite, silent, too loud, too short or too long.
        MissingFfmpeg: libsndfile cannot read the file, such as an m4a or webm, and ffmpeg is not on PATH.
    """
    samples, sample_rate = _decode(path, start_s, end_s)
    return _mix_to_mono(path, samples, sample_rate)


def audio_from_samples(samples: NDArray[Any], sample_rate: int) -> Audio:
    """Return samples as a clip, checked and mixed to mono like those of a file.

    Args:
        samples: `(n_samples,)` or `(n_samples, n_channels)`: floats in [-1, 1], or signed integers of full scale.
        sample_rate: in Hz.

    Raises:
        BadAudio: the samples are of another shape or type, empty, not finite, silent, too loud, too short or too long.
    """
    name = "samples"
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_CHANNELS):
        valid = f"valid are (n_samples,) and (n_samples, n_channels), up to {MAX_CHANNELS} channels"
        raise BadAudio(name, f"have the shape {samples.shape}; {valid}")
    _refuse_sample_rate(name, sample_rate)
    if np.issubdtype(samples.dtype, np.signedinteger):
        scaled = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples
    else:
        raise BadAudio(name, f"have the type {samples.dtype}; valid are floats and signed integers")
    _refuse_too_long(name, len(samples) / sample_rate)
    return _mix_to_mono(name, scaled.astype(np.float32).reshape(len(samples), -1), sample_rate)


def _mix_to_mono(name: object, samples: NDArray[np.float32], sample_rate: int) -> Audio:
    """Return decoded samples `(n_samples, n_channels)` as a clip, or refuse them."""
    _refuse_unusable_samples(name, samples, sample_rate)
    digest = hashlib.sha256(f"{sample_rate} {samples.shape}".encode())
    digest.update(np.ascontiguousarray(samples).data)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    audio = Audio(np.ascontiguousarray(mono, dtype=np.float32), sample_rate, digest.hexdigest())
    if (samples.shape[1] > 1 or sample_rate != SAMPLE_RATE) and _find_peak(audio.waveform) < SILENCE_PEAK:
        raise BadAudio(name, f"is silent as mono at {SAMPLE_RATE} Hz: its channels cancel, or all of it is ultrasound")
    return audio


def _refuse_unusable_samples(path: object, samples: NDArray[np.float32], sample_rate: int) -> None:
    seconds = len(samples) / sample_rate
    if seconds < MIN_CLIP_S:
        raise BadAudio(path, f"is {seconds:.3f} s long; at least {MIN_CLIP_S} s are needed")
    peak = _find_peak(samples)
    if not math.isfinite(peak):
        raise BadAudio(path, "contains samples that are not finite")
    if peak < SILENCE_PEAK:
        raise BadAudio(path, "is silent")
    if peak > MAX_PEAK:
        raise BadAudio(path, f"has samples up to {peak:.3g}, where full scale is 1")


def _find_peak(samples: NDArray[np.float32]) -> float:
    """Return the largest magnitude; NaN where a sample is NaN."""
    return float(np.maximum(samples.max(), -samples.min()))


def _decode(path: Path, start_s: float | None, end_s: float | None) -> tuple[NDArray[np.float32], int]:
    """Return the samples `(n_samples, n_channels)` of a file or a part of it, and their rate in Hz."""
    _refuse_no_file(path)
    first_s, last_s = start_s or 0.0, math.inf if end_s is None else end_s
    if not (0 <= first_s <= last_s and first_s < math.inf):  # NaN compares as false
        raise BadAudio(path, f"has no part from {start_s} to {end_s} s")
    try:
        if (form := find_ffmpeg_format(path)) is not None:
            return _read_with_ffmpeg(path, form, first_s, last_s)
        with soundfile.SoundFile(path) as file:
            return _read_samples(file, path, first_s, last_s), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", str(error))
        if not os.access(path, os.R_OK):
            reason = "permission denied"
        raise BadAudio(path, f"cannot be decoded ({reason})") from error
    except (TypeError, UnicodeError) as error:  # raised by soundfile for *.raw, and for names in another encoding
        raise BadAudio(path, f"cannot be opened ({error})") from error


def _read_with_ffmpeg(path: Path, form: str, first_s: float, last_s: float) -> tuple[NDArray[np.float32], int]:
    samples, sample_rate = decode_with_ffmpeg(path, form, first_s, min(last_s - first_s, MAX_CLIP_S + 1))
    _refuse_sample_rate(path, sample_rate)
    _refuse_channels(path, samples.shape[1])
    if len(samples) / sample_rate > MAX_CLIP_S:  # the whole length is unknown
        raise BadAudio(path, f"is over {MAX_CLIP_S:.0f} s long; at most {MAX_CLIP_S:.0f} s are allowed")
    return samples, sample_rate


def _refuse_no_file(path: Path) -> None:
    """Refuse paths that fail without a message in soundfile, or that block, such as a FIFO."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise BadAudio(path, "is a broken link" if path.is_symlink() else "no such file") from error
    except (OSError, ValueError) as error:
        raise BadAudio(path, f"cannot be opened ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(mode):
        raise BadAudio(path, "is a folder" if stat.S_ISDIR(mode) else "is a pipe, socket or device, not a file")


def _read_samples(file: soundfile.SoundFile, path: Path, first_s: float, last_s: float) -> NDArray[np.float32]:
    _refuse_sample_rate(path, file.samplerate)
    _refuse_channels(path, file.channels)
    frames, slack = _measure_length(file, path)
    first = int(first_s * file.samplerate)
    last = frames if math.isinf(last_s) else min(int(last_s * file.samplerate), frames)
    _refuse_too_long(path, (last - first) / file.samplerate)
    # GSM and G.721 cannot seek. A whole file is sought too: the last bits of a decoded MP3 depend on it.
    if first or file.seekable():
        file.seek(min(first, file.frames))
    samples: NDArray[np.float32] = file.read(max(last - first, 0), dtype="float32", always_2d=True)
    if len(samples) < last - first - slack:
        raise BadAudio(path, f"is truncated: {len(samples)} of {last - first} samples")
    return samples


def _refuse_sample_rate(path: object, sample_rate: int) -> None:
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise BadAudio(path, f"has a sample rate of {sample_rate} Hz; valid are {MIN_RATE} to {MAX_RATE} Hz")


def _refuse_channels(path: object, n_channels: int) -> None:
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise BadAudio(path, f"states {n_channels} channels; valid are 1 to {MAX_CHANNELS}")


def _refuse_too_long(path: object, seconds: float) -> None:
    if seconds > MAX_CLIP_S:
        raise BadAudio(path, f"is {seconds:.0f} s long; at most {MAX_CLIP_S:.0f} s are allowed")


def _measure_length(file: soundfile.SoundFile, path: Path) -> tuple[int, int]:
    """Return the number of samples of a whole file, and how many fewer the decoder may return.

    Raises:
        BadAudio: the file is truncated, or does not state its length.
    """
    for declared, present in DECLARED.findall(file.extra_info):
        if int(present) < int(declared) < PIPED_WAV_BYTES:
            raise BadAudio(path, f"is truncated: {present} of {declared} bytes of audio")
    if file.frames == UNKNOWN_LENGTH:
        raise BadAudio(
            path, "does not state its length, as it was written to a pipe; convert it: ffmpeg -i OLD NEW.flac"
        )
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
        raise BadAudio(
            path, "is truncated: its last frame is incomplete, or it has fewer frames than its header states"
        )
    if file.frames < found.samples - slack:  # libsndfile would stop there
        seconds, present = file.frames / file.samplerate, found.samples / file.samplerate
        raise BadAudio(
            path,
            f"has {present:.1f} s of audio, but its header states {seconds:.1f} s; convert it: ffmpeg -i OLD NEW.flac",
        )
    if found.declared_frames or not found.has_ended:
        return file.frames, 0
    return min(file.frames, found.samples), slack  # file.frames is an estimate from the first frame
