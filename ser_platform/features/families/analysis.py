"""What families share: the waveforms of a clip or a batch, and one spectrum per `Stft`, each computed once."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.features.families.filters import mel_filters

AMIN = 1e-10  # power; digital silence would give -inf
FRAMES_IN_CACHE = 16  # 2048 samples in double precision, and their spectra: 0.7 MB, a fifth faster than all at once


@dataclass(frozen=True)
class Stft:
    """One short-time Fourier transform, centred, zeros beyond the ends; families that name the same one share it."""

    sample_rate: int = SAMPLE_RATE  # Hz
    n_fft: int = 512  # samples; next power of two
    win_length: int = 400  # samples; 25 ms
    hop_length: int = 160  # samples; 10 ms
    window: str = "hann"  # or "hamming"

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate

    @property
    def n_bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def bin_hz(self) -> float:
        """Hertz from one bin to the next."""
        return self.sample_rate / self.n_fft


SPEECH_STFT = Stft()  # what the frame families share, so that a feature set is columns side by side
LIBROSA_STFT = Stft(22_050, 2048, 2048, 512)  # the defaults of every `librosa.feature` function


class Analysis:
    """One clip, or a batch of clips padded with zeros, and what was already computed of it.

    Every tensor of a clip is `(n_frames, ...)`, of a batch `(n_clips, n_frames, ...)`; a clip of a batch has what
    it has alone, up to its own number of frames.

    Raises:
        ValueError: a waveform is not mono.
    """

    def __init__(self, audio: Audio | Sequence[Audio], device: torch.device | str = "cpu") -> None:
        self.is_batch = not isinstance(audio, Audio)
        self.clips: tuple[Audio, ...] = (audio,) if isinstance(audio, Audio) else tuple(audio)
        self.device = torch.device(device)
        for clip in self.clips:
            if clip.samples.ndim != 1:
                raise ValueError(f"waveform must be mono (n_samples,), got shape {clip.samples.shape}")
        self._cache: dict[Hashable, Tensor] = {}
        self._lengths: dict[int, list[int]] = {}

    def compute(self, family: Callable[["Analysis"], Tensor]) -> Tensor:
        """Return the features of a family, computed once however many families build on it."""
        return self._compute_once(family, lambda: family(self))

    def waveform(self, sample_rate: int) -> Tensor:
        """Return the samples at a rate in Hz, `(n_samples,)` or `(n_clips, n_samples)`."""
        return self._compute_once(sample_rate, lambda: self._load_waveforms(sample_rate))

    def lengths(self, sample_rate: int) -> list[int]:
        """Return the samples of each clip at a rate in Hz."""
        self.waveform(sample_rate)
        return self._lengths[sample_rate]

    def frame_counts(self, stft: Stft) -> list[int]:
        """Return the frames of each clip."""
        return [1 + length // stft.hop_length for length in self.lengths(stft.sample_rate)]

    def padded_waveform(self, sample_rate: int, frame_length: int) -> Tensor:
        """Return the samples with zeros at both ends, so that `unfold` gives frames centred on their hop."""
        half = frame_length // 2
        key = ("padded", sample_rate, frame_length)
        ends = (half, frame_length - half)
        return self._compute_once(key, lambda: torch.nn.functional.pad(self.waveform(sample_rate), ends))

    def frames(self, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return centred frames `(..., n_frames, frame_length)`, zeros beyond the ends, as many as a spectrum has."""
        return self.cut_frames(self.padded_waveform(sample_rate, frame_length), sample_rate, frame_length, hop_length)

    def cut_frames(self, padded: Tensor, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return frames `(..., n_frames, frame_length)` of what was made from `padded_waveform` samples."""
        n_frames = 1 + max(self.lengths(sample_rate)) // hop_length
        return padded.unfold(-1, frame_length, hop_length)[..., :n_frames, :]

    def frame_power(self, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return the mean square of each of `frames`, `(..., n_frames, 1)`."""
        squares = self.padded_waveform(sample_rate, frame_length).square()
        return self.cut_frames(squares, sample_rate, frame_length, hop_length).mean(-1, keepdim=True)

    def magnitude(self, stft: Stft) -> Tensor:
        """Return the magnitude spectrum `(..., n_frames, n_bins)`, 0 past a clip's last frame."""
        return self._compute_once(("magnitude", stft), lambda: self._spectrum(stft))

    def power(self, stft: Stft) -> Tensor:
        """Return the power spectrum `(..., n_frames, n_bins)`."""
        return self._compute_once(("power", stft), lambda: self.magnitude(stft).square())

    def mel(self, stft: Stft, n_mels: int) -> Tensor:
        """Return mel energies `(..., n_frames, n_mels)`."""

        def filtered() -> Tensor:
            power = self.power(stft)
            filters = mel_filters(stft.sample_rate, stft.n_fft, n_mels, self.device)
            return torch.cat([power[..., first:last] @ weights for first, last, weights in filters], dim=-1)

        return self._compute_once(("mel", stft, n_mels), filtered)

    def log_mel(self, stft: Stft, n_mels: int) -> Tensor:
        """Return natural-log mel energies `(..., n_frames, n_mels)`."""
        return self._compute_once(("log", stft, n_mels), lambda: self.mel(stft, n_mels).clamp_min(AMIN).log())

    def decibel_mel(self, stft: Stft, n_mels: int, ref: str, top_db: float | None) -> Tensor:
        """Return mel energies in decibels `(..., n_frames, n_mels)`; see `decibels`."""
        key = ("decibels", stft, n_mels, ref, top_db)
        return self._compute_once(key, lambda: decibels(self.mel(stft, n_mels), ref, top_db))

    def total(self, stft: Stft) -> Tensor:
        """Return the sum of each frame's magnitudes, `(..., n_frames, 1)`."""
        return self._compute_once(("total", stft), lambda: self.magnitude(stft).sum(-1, keepdim=True))

    def frame_mask(self, counts: list[int]) -> Tensor:
        """Return which of the longest clip's rows each clip has, `(n_clips, n_rows)`."""
        return torch.arange(max(counts), device=self.device) < torch.tensor(counts, device=self.device)[:, None]

    def _compute_once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _load_waveforms(self, sample_rate: int) -> Tensor:
        clips = [clip.waveform if sample_rate == SAMPLE_RATE else clip.resample(sample_rate) for clip in self.clips]
        self._lengths[sample_rate] = [len(samples) for samples in clips]
        if not self.is_batch:
            return torch.from_numpy(clips[0]).to(self.device)
        padded = np.zeros((len(clips), max(self._lengths[sample_rate])), dtype=np.float32)
        for row, samples in zip(padded, clips, strict=True):
            row[: len(samples)] = samples
        return torch.from_numpy(padded).to(self.device)

    def _spectrum(self, stft: Stft) -> Tensor:
        # A window in the middle of n_fft zeros has the magnitudes of the window alone: only the phase differs.
        samples = self.padded_waveform(stft.sample_rate, stft.win_length).to(_transform_dtype(self.device))
        frames = self.cut_frames(samples, stft.sample_rate, stft.win_length, stft.hop_length)
        window = _window(stft.window, stft.win_length, self.device)
        magnitude = torch.empty((*frames.shape[:-1], stft.n_bins), device=self.device)
        block = frames.shape[-2] if self.device.type != "cpu" else FRAMES_IN_CACHE
        for first in range(0, frames.shape[-2], block):
            part = slice(first, first + block)
            _magnitude(torch.fft.rfft(frames[..., part, :] * window, stft.n_fft), magnitude[..., part, :])
        counts = self.frame_counts(stft)
        if min(counts) < max(counts):
            # The frames after a clip's last one overlap its end: their level must not count as the clip's.
            magnitude *= self.frame_mask(counts)[:, :, None]
        return magnitude


def _magnitude(spectrum: Tensor, out: Tensor) -> None:
    """Write the absolute value into `out`; on the CPU by NumPy, which takes a seventh of torch's time."""
    if out.device.type == "cpu":
        np.abs(spectrum.to(torch.complex64).numpy(), out=out.numpy())
    else:
        out.copy_(spectrum.abs())


def magnitude(spectrum: Tensor) -> Tensor:
    """Return the absolute value of a complex tensor in single precision."""
    out = torch.empty(spectrum.shape, device=spectrum.device)
    _magnitude(spectrum, out)
    return out


def _transform_dtype(device: torch.device) -> torch.dtype:
    """Return the type of a transform: in single precision its rounding would fill the valleys of a loud spectrum."""
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no double precision


def decibels(power: Tensor, ref: str = "one", top_db: float | None = 80.0) -> Tensor:
    """Return `10 log10(power / ref)`, no lower than `top_db` under the clip's largest value.

    Args:
        power: `(..., n_frames, n_features)`; what is under 1e-10 counts as that.
        ref: "one", or "max" for the clip's largest power.

    Source: `librosa.power_to_db`.
    """
    levels = power.clamp_min(AMIN).log10_().mul_(10)
    loudest = levels.amax((-2, -1), keepdim=True)
    if top_db is not None:
        levels = levels.maximum(loudest - top_db)
    return levels - loudest if ref == "max" else levels


@lru_cache
def _window(name: str, win_length: int, device: torch.device) -> Tensor:
    return {"hann": torch.hann_window, "hamming": torch.hamming_window}[name](
        win_length, dtype=_transform_dtype(device), device=device
    )
