"""Families of the samples themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.features.families.analysis import AMIN, Analysis
from ser_platform.features.families.family import StftFamily

if TYPE_CHECKING:
    from torch import Tensor

SIGN_THRESHOLD = 1e-10  # amplitudes within it count as positive


@dataclass(frozen=True)
class Zcr(StftFamily):
    """Sign changes per sample of a frame, in [0, 1]; a clip is extended with its first and last sample.

    Source: `librosa.feature.zero_crossing_rate` with the window's length as `frame_length`.
    """

    version: ClassVar[int] = 3
    columns: ClassVar[tuple[str, ...]] = ("zcr",)

    def __call__(self, analysis: Analysis) -> Tensor:
        rate, frame_length = self.stft.sample_rate, self.stft.win_length
        changes = _find_sign_changes(analysis.padded_waveform(rate, frame_length))
        # The borders between the clip and its padding are not sign changes.
        before = frame_length // 2 - 1
        changes[[before, before + len(analysis.waveform(rate))]] = 0
        counts = analysis.cut_frames(changes, rate, frame_length - 1, self.stft.hop_length).sum(-1, keepdim=True)
        return counts / frame_length


def _find_sign_changes(samples: Tensor) -> Tensor:
    """Return 1 where the sign of a sample and of the next differ, else 0: `(n_samples - 1,)`."""
    import torch

    is_negative = samples.numpy() < -SIGN_THRESHOLD  # NumPy is five times as fast as torch
    return torch.from_numpy(is_negative[1:] != is_negative[:-1]).float()


@dataclass(frozen=True)
class Rms(StftFamily):
    """Root mean square of a frame's samples with `scale` "linear" (full scale is 1), its natural log with "ln".

    Source: `librosa.feature.rms` with the window's length as `frame_length`.
    """

    version: ClassVar[int] = 3
    columns: ClassVar[tuple[str, ...]] = ("rms",)
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

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.waveform(self.sample_rate)[:, None]
