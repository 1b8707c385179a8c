"""Fundamental frequency and voicing by YIN.

Source: de Cheveigné & Kawahara (2002), YIN, a fundamental frequency estimator for speech and music, JASA 111(4), steps
2 to 5. The window of a frame is the whole frame, as in `librosa.yin`; the frequencies agree with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ser_platform.features.families.analysis import AMIN, Analysis, compute_magnitude
from ser_platform.features.families.family import StftFamily

if TYPE_CHECKING:
    from torch import Tensor

FRAMES_IN_CACHE = 128  # frames of 1024, their spectra and their correlations are 3 MB
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class F0(StftFamily):
    """Fundamental frequency in Hz, 0 in unvoiced frames, and voicing: 1 - aperiodicity, in [0, 1], 0 in silence.

    Only the hop and the rate of `stft` are used: a frame must hold two periods of `lowest_hz`.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("f0_hz", "voicing")
    frame_length: int = 1024  # samples; 64 ms
    lowest_hz: float = 60.0
    highest_hz: float = 600.0
    trough: float = 0.1  # the first period with lower aperiodicity is chosen, else that of the lowest aperiodicity
    unvoiced: float = 0.4  # a frame of at least this aperiodicity has no fundamental frequency

    @property
    def lags(self) -> tuple[int, int]:
        """The shortest and the longest period, in samples."""
        return int(self.stft.sample_rate // self.highest_hz), -int(-self.stft.sample_rate // self.lowest_hz)

    def __call__(self, analysis: Analysis) -> Tensor:
        import torch

        frames = analysis.frames(self.stft.sample_rate, self.frame_length, self.stft.hop_length)
        # Silence is periodic at every lag, but unvoiced.
        power = analysis.frame_power(self.stft.sample_rate, self.frame_length, self.stft.hop_length)
        parts = zip(frames.split(FRAMES_IN_CACHE), (power < AMIN).split(FRAMES_IN_CACHE), strict=True)
        return torch.cat([self._pitch(part, is_silent) for part, is_silent in parts])

    def _pitch(self, frames: Tensor, is_silent: Tensor) -> Tensor:
        import torch

        shortest, longest = self.lags
        aperiodicity = compute_normalised_difference(frames, longest)[..., shortest - 1 :]
        lag = find_first_trough(aperiodicity, self.trough)
        hertz = self.stft.sample_rate / (shortest + lag + _refine_lag(aperiodicity, lag))
        at_lag = aperiodicity.gather(-1, lag).masked_fill_(is_silent, 1.0)
        return torch.cat((torch.where(at_lag < self.unvoiced, hertz, 0.0), (1 - at_lag).clamp(0, 1)), dim=-1)


def compute_normalised_difference(frames: Tensor, longest: int) -> Tensor:
    """Return the cumulative mean normalised difference function: steps 2 and 3 of YIN.

    Args:
        frames: `(..., frame_length)`, extended with zeros.
        longest: the largest lag, in samples.

    Returns:
        `(..., longest)`, for the lags 1 to `longest`.
    """
    import torch

    size = _round_up_length(frames.shape[-1] + longest)  # long enough that no lag wraps around
    correlation = torch.fft.irfft(compute_magnitude(torch.fft.rfft(frames, size)).square_(), size)[..., : longest + 1]
    left_behind = frames[..., :longest].square().cumsum(-1)  # energy of the samples without a partner at this lag
    difference = torch.sub(2 * correlation[..., :1], left_behind).sub_(correlation[..., 1:], alpha=2)
    lags = torch.arange(1, longest + 1, dtype=torch.float32)
    return (difference * lags).div_(difference.cumsum(-1).add_(TINY))


def find_first_trough(aperiodicity: Tensor, threshold: float) -> Tensor:
    """Return the index `(..., 1)` of the first local minimum under `threshold`, else of the smallest value: step 4."""
    import torch

    inside = aperiodicity[..., 1:-1]
    is_trough = torch.zeros_like(aperiodicity, dtype=torch.bool)
    is_trough[..., 0] = aperiodicity[..., 0] < aperiodicity[..., 1]
    is_trough[..., 1:-1] = (inside < aperiodicity[..., :-2]) & (inside <= aperiodicity[..., 2:])
    is_trough[..., -1] = aperiodicity[..., -1] < aperiodicity[..., -2]
    index = torch.arange(aperiodicity.shape[-1])
    none = aperiodicity.shape[-1]
    first = torch.where(is_trough & (aperiodicity < threshold), index, none).amin(-1, keepdim=True)
    return torch.where(first < none, first, aperiodicity.min(-1, keepdim=True).indices)


def _refine_lag(aperiodicity: Tensor, lag: Tensor) -> Tensor:
    """Return the offset from `lag` to the minimum of the parabola through its neighbours, 0 at the ends: step 5."""
    import torch

    last = aperiodicity.shape[-1] - 1
    before, at, after = (aperiodicity.gather(-1, (lag + step).clamp(0, last)) for step in (-1, 0, 1))
    curvature, slope = before + after - 2 * at, (after - before) / 2
    is_usable = (slope.abs() < curvature.abs()) & (lag > 0) & (lag < last)
    return torch.where(is_usable, -slope / torch.where(is_usable, curvature, 1.0), 0.0)


def _round_up_length(n_samples: int) -> int:
    """Return the next multiple of 64 without a prime factor over 7, a length at which FFTs are fast."""
    length = 64 * math.ceil(n_samples / 64)
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 64
