"""Families of the samples themselves."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ser_platform.corpora.audio import SAMPLE_RATE
from ser_platform.features.analysis import AMIN, Analysis
from ser_platform.features.family import Framed

ZERO = 1e-10  # amplitude that has no sign


@dataclass(frozen=True)
class Zcr(Framed):
    """Sign changes over samples of a frame, in [0, 1]; beyond its ends a clip goes on with its first and last sample.

    Source: `librosa.feature.zero_crossing_rate` with `frame_length` the window's.
    """

    version: ClassVar[int] = 3
    n_features: ClassVar[int] = 1
    column_names: ClassVar[tuple[str, ...]] = ("zcr",)

    def __call__(self, analysis: Analysis) -> Tensor:
        rate, frame_length = self.stft.sample_rate, self.stft.win_length
        # In place, 1 for negative and 0 else: a comparison into booleans takes three times as long.
        negative = analysis.padded(rate, frame_length).clone().lt_(-ZERO)
        changes = (negative[..., 1:] - negative[..., :-1]).square_()
        changes[..., frame_length // 2 - 1] = 0  # from padding to the first sample is no change, nor from the last
        ends = torch.tensor(analysis.lengths(rate), device=changes.device) + frame_length // 2 - 1
        changes = changes.view(len(ends), -1).scatter_(1, ends[:, None], 0.0).view(changes.shape)
        counts = analysis.framed(changes, rate, frame_length - 1, self.stft.hop_length).sum(-1, keepdim=True)
        return counts / frame_length


@dataclass(frozen=True)
class Rms(Framed):
    """Root mean square of a frame's samples; full scale is 1, or 0 for its natural log (`scale` "linear" or "ln").

    Source: `librosa.feature.rms` with `frame_length` the window's.
    """

    version: ClassVar[int] = 3
    n_features: ClassVar[int] = 1
    column_names: ClassVar[tuple[str, ...]] = ("rms",)
    scale: str = "ln"

    def __call__(self, analysis: Analysis) -> Tensor:
        power = analysis.frame_power(self.stft.sample_rate, self.stft.win_length, self.stft.hop_length)
        return 0.5 * power.clamp_min(AMIN).log() if self.scale == "ln" else power.sqrt()


@dataclass(frozen=True)
class Waveform:
    """The samples themselves, one column."""

    version: ClassVar[int] = 2
    n_features: ClassVar[int] = 1
    column_names: ClassVar[tuple[str, ...]] = ("sample",)
    sample_rate: int = SAMPLE_RATE  # Hz

    @property
    def frame_s(self) -> float:
        return 1 / self.sample_rate

    def rows(self, analysis: Analysis) -> list[int]:
        return analysis.lengths(self.sample_rate)

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.waveform(self.sample_rate)[..., None]
