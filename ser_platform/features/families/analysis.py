"""What families share: the waveform of a clip at each sample rate and one spectrum per `Stft`, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.features.families.filters import make_mel_filters

if TYPE_CHECKING:
    from torch import Tensor

AMIN = 1e-10  # power; digital silence would give -inf
FRAMES_IN_CACHE = 16  # 2048 samples in double precision, and their spectra: 0.7 MB, a fifth faster than all at once


@dataclass(frozen=True)
class Stft:
    """Settings of a centred short-time Fourier transform, with zeros beyond the ends; equal settings share one."""

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


SPEECH_STFT = Stft()  # of all families in FEATURE_SETS, so that their columns can be concatenated
LIBROSA_STFT = Stft(22_050, 2048, 2048, 512)  # defaults of the `librosa.feature` functions


class Analysis:
    """One clip and a cache of what was computed from it; every tensor of frames is `(n_frames, ...)`.

    Raises:
        ValueError: the waveform is not mono.
    """

    def __init__(self, audio: Audio) -> None:
        if audio.samples.ndim != 1:
            raise ValueError(f"waveform must be mono (n_samples,), got shape {audio.samples.shape}")
        self.audio = audio
        self._cache: dict[Hashable, Tensor] = {}

    def compute(self, family: Callable[[Analysis], Tensor]) -> Tensor:
        """Return the features of a family, computed once even where several families use it."""
        return self._compute_once(family, lambda: family(self))

    def waveform(self, sample_rate: int) -> Tensor:
        """Return the samples at a rate in Hz, `(n_samples,)`."""
        import torch

        return self._compute_once(sample_rate, lambda: torch.from_numpy(self._resample(sample_rate)))

    def padded_waveform(self, sample_rate: int, frame_length: int) -> Tensor:
        """Return the samples with zeros at both ends, so that `unfold` returns frames centred on their hop."""
        import torch

        half = frame_length // 2
        key = ("padded", sample_rate, frame_length)
        ends = (half, frame_length - half)
        return self._compute_once(key, lambda: torch.nn.functional.pad(self.waveform(sample_rate), ends))

    def frames(self, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return centred frames `(n_frames, frame_length)`, zeros beyond the ends; `n_frames` is that of a spectrum."""
        return self.cut_frames(self.padded_waveform(sample_rate, frame_length), sample_rate, frame_length, hop_length)

    def cut_frames(self, padded: Tensor, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return frames `(n_frames, frame_length)` of values derived from `padded_waveform`."""
        n_frames = 1 + len(self.waveform(sample_rate)) // hop_length
        return padded.unfold(0, frame_length, hop_length)[:n_frames]

    def frame_power(self, sample_rate: int, frame_length: int, hop_length: int) -> Tensor:
        """Return the mean square of each of `frames`, `(n_frames, 1)`."""
        squares = self.padded_waveform(sample_rate, frame_length).square()
        return self.cut_frames(squares, sample_rate, frame_length, hop_length).mean(-1, keepdim=True)

    def magnitude(self, stft: Stft) -> Tensor:
        """Return the magnitude spectrum `(n_frames, n_bins)`."""
        return self._compute_once(("magnitude", stft), lambda: self._spectrum(stft))

    def power(self, stft: Stft) -> Tensor:
        """Return the power spectrum `(n_frames, n_bins)`."""
        return self._compute_once(("power", stft), lambda: self.magnitude(stft).square())

    def mel(self, stft: Stft, n_mels: int) -> Tensor:
        """Return mel energies `(n_frames, n_mels)`."""
        return self._compute_once(("mel", stft, n_mels), lambda: self._apply_mel_filters(stft, n_mels))

    def log_mel(self, stft: Stft, n_mels: int) -> Tensor:
        """Return natural-log mel energies `(n_frames, n_mels)`."""
        return self._compute_once(("log", stft, n_mels), lambda: self.mel(stft, n_mels).clamp_min(AMIN).log())

    def decibel_mel(self, stft: Stft, n_mels: int, ref: str, top_db: float | None) -> Tensor:
        """Return mel energies in decibels `(n_frames, n_mels)`; see `convert_to_decibels`."""
        key = ("decibels", stft, n_mels, ref, top_db)
        return self._compute_once(key, lambda: convert_to_decibels(self.mel(stft, n_mels), ref, top_db))

    def total(self, stft: Stft) -> Tensor:
        """Return the sum of each frame's magnitudes, `(n_frames, 1)`."""
        return self._compute_once(("total", stft), lambda: self.magnitude(stft).sum(-1, keepdim=True))

    def _compute_once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _resample(self, sample_rate: int) -> NDArray[np.float32]:
        return self.audio.waveform if sample_rate == SAMPLE_RATE else self.audio.resample(sample_rate)

    def _apply_mel_filters(self, stft: Stft, n_mels: int) -> Tensor:
        import torch

        power, filters = self.power(stft), make_mel_filters(stft.sample_rate, stft.n_fft, n_mels)
        return torch.cat([power[:, first:last] @ weights for first, last, weights in filters], dim=-1)

    def _spectrum(self, stft: Stft) -> Tensor:
        import torch

        # A window centred in n_fft zeros has the same magnitudes as the window alone: only the phase differs.
        # In single precision the transform's rounding would fill the valleys of a loud spectrum.
        samples = self.padded_waveform(stft.sample_rate, stft.win_length).double()
        frames = self.cut_frames(samples, stft.sample_rate, stft.win_length, stft.hop_length)
        windows = {"hann": torch.hann_window, "hamming": torch.hamming_window}
        window = windows[stft.window](stft.win_length, dtype=torch.float64)
        spectrum = torch.empty((len(frames), stft.n_bins))
        for part, out in zip(frames.split(FRAMES_IN_CACHE), spectrum.split(FRAMES_IN_CACHE), strict=True):
            _write_magnitude(torch.fft.rfft(part * window, stft.n_fft), out)
        return spectrum


def compute_magnitude(spectrum: Tensor) -> Tensor:
    """Return the absolute value of a complex tensor in single precision."""
    import torch

    out = torch.empty(spectrum.shape)
    _write_magnitude(spectrum, out)
    return out


def _write_magnitude(spectrum: Tensor, out: Tensor) -> None:
    import torch

    np.abs(spectrum.to(torch.complex64).numpy(), out=out.numpy())  # seven times as fast as torch


def convert_to_decibels(power: Tensor, ref: str = "one", top_db: float | None = 80.0) -> Tensor:
    """Return `10 log10(power / ref)`, at least the clip's largest value minus `top_db`.

    Args:
        power: `(..., n_frames, n_features)`; values under 1e-10 are replaced by 1e-10.
        ref: "one", or "max" for the clip's largest power.

    Source: `librosa.power_to_db`.
    """
    levels = power.clamp_min(AMIN).log10_().mul_(10)
    loudest = levels.amax((-2, -1), keepdim=True)
    if top_db is not None:
        levels = levels.maximum(loudest - top_db)
    return levels - loudest if ref == "max" else levels
