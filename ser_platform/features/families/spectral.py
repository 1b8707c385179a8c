"""Families of the spectrum. Each agrees with the `librosa.feature` function named in its docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ser_platform.features.families.analysis import AMIN, Analysis, convert_to_decibels
from ser_platform.features.families.family import StftFamily, number_columns
from ser_platform.features.families.filters import (
    find_contrast_bands,
    make_bin_numbers,
    make_chroma_filters,
    make_dct_matrix,
    make_tonnetz_matrix,
)

if TYPE_CHECKING:
    from torch import Tensor

TINY = float(np.finfo(np.float32).tiny)  # avoids a division by zero in silent frames


@dataclass(frozen=True)
class MelFamily(StftFamily):
    """A family with one column per mel band, named `band` and its number."""

    band: ClassVar[str]
    n_mels: int = 128

    @property
    def column_names(self) -> tuple[str, ...]:
        return number_columns(self.band, self.n_mels)


@dataclass(frozen=True)
class MelPower(MelFamily):
    """Mel energies, Slaney's mel scale and area normalisation (`melspectrogram`)."""

    version: ClassVar[int] = 1
    band: ClassVar[str] = "mel"

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.mel(self.stft, self.n_mels)


@dataclass(frozen=True)
class LogMel(MelFamily):
    """Natural-log mel energies, Slaney's mel scale and area normalisation."""

    version: ClassVar[int] = 3
    band: ClassVar[str] = "log_mel"
    n_mels: int = 64

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.log_mel(self.stft, self.n_mels)


@dataclass(frozen=True)
class DecibelMel(MelFamily):
    """Mel energies in decibels (`power_to_db` of `melspectrogram`).

    `ref` is "one" (full scale), or "max" for decibels relative to the clip's loudest band. Values more than `top_db`
    under the loudest band are raised to that level.
    """

    version: ClassVar[int] = 1
    band: ClassVar[str] = "mel_db"
    ref: str = "one"
    top_db: float | None = 80.0

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.decibel_mel(self.stft, self.n_mels, self.ref, self.top_db)


@dataclass(frozen=True)
class Mfcc(StftFamily):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel energies (Davis & Mermelstein, 1980).

    `scale` is "ln", or "db" for decibels with 80 dB of range (`mfcc`). All 40 are stored; a view may use fewer.
    """

    version: ClassVar[int] = 3
    n_mels: int = 64
    n_mfcc: int = 40
    scale: str = "ln"

    @property
    def column_names(self) -> tuple[str, ...]:
        return number_columns("mfcc", self.n_mfcc)

    def __call__(self, analysis: Analysis) -> Tensor:
        if self.scale == "db":
            levels = analysis.decibel_mel(self.stft, self.n_mels, "one", 80.0)
        else:
            levels = analysis.log_mel(self.stft, self.n_mels)
        return levels @ make_dct_matrix(self.n_mfcc, self.n_mels)


@dataclass(frozen=True)
class Chroma(StftFamily):
    """Energy of the twelve pitch classes, scaled so that a frame's largest is 1 (`chroma_stft` with `tuning=0`).

    The tuning is fixed: librosa's default estimates it from each clip, which is unreliable for speech and slow.

    Source: Ellis (2007), Chroma feature analysis and synthesis.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = tuple(
        f"chroma_{name}" for name in ("c", "c#", "d", "d#", "e", "f", "f#", "g", "g#", "a", "a#", "b")
    )

    def __call__(self, analysis: Analysis) -> Tensor:
        energy = analysis.power(self.stft) @ make_chroma_filters(self.stft.sample_rate, self.stft.n_fft)
        return _divide_or_zero(energy, energy.amax(-1, keepdim=True))


@dataclass(frozen=True)
class Tonnetz(StftFamily):
    """Tonal centroids of the chroma: fifths, minor and major thirds (`tonnetz(chroma=chroma_stft)`)."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = tuple(
        f"tonnetz_{circle}_{axis}" for circle in ("fifths", "minor", "major") for axis in "xy"
    )

    def __call__(self, analysis: Analysis) -> Tensor:
        chroma = analysis.compute(Chroma(self.stft))
        return _divide_or_zero(chroma, chroma.sum(-1, keepdim=True)) @ make_tonnetz_matrix()


@dataclass(frozen=True)
class Centroid(StftFamily):
    """Mean frequency in Hz, weighted by magnitude (`spectral_centroid`); 0 in silence."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("centroid_hz",)

    def __call__(self, analysis: Analysis) -> Tensor:
        magnitude = analysis.magnitude(self.stft)
        bins = make_bin_numbers(self.stft.n_bins)
        return _divide_or_zero((magnitude @ bins)[:, None], analysis.total(self.stft)) * self.stft.bin_hz


@dataclass(frozen=True)
class Bandwidth(StftFamily):
    """Standard deviation of frequency in Hz, weighted by magnitude (`spectral_bandwidth`); 0 in silence."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("bandwidth_hz",)

    def __call__(self, analysis: Analysis) -> Tensor:
        magnitude = analysis.magnitude(self.stft)
        bins = make_bin_numbers(self.stft.n_bins)
        # Around the centroid: mean square minus squared mean loses precision for a narrow band of high frequency.
        spread = (bins - analysis.compute(Centroid(self.stft)) / self.stft.bin_hz).square_().mul_(magnitude)
        variance = _divide_or_zero(spread.sum(-1, keepdim=True), analysis.total(self.stft))
        return variance.sqrt() * self.stft.bin_hz


@dataclass(frozen=True)
class Rolloff(StftFamily):
    """Frequency in Hz below which `share` of a frame's summed magnitude is (`spectral_rolloff`); 0 in silence."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("rolloff_hz",)
    share: float = 0.85

    def __call__(self, analysis: Analysis) -> Tensor:
        import torch

        reached = analysis.magnitude(self.stft).cumsum(-1)
        return torch.searchsorted(reached, (self.share * reached[:, -1:]).contiguous()).float() * self.stft.bin_hz


@dataclass(frozen=True)
class Flatness(StftFamily):
    """Geometric over arithmetic mean of the power, 1 for white noise and for silence (`spectral_flatness`)."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("flatness",)

    def __call__(self, analysis: Analysis) -> Tensor:
        power = analysis.power(self.stft).clamp_min(AMIN)
        mean = power.mean(-1, keepdim=True)
        return power.log_().mean(-1, keepdim=True).exp() / mean


@dataclass(frozen=True)
class Contrast(StftFamily):
    """Decibels from the weakest to the strongest bins of octave bands: to 200 Hz, to 400 Hz, ... (`spectral_contrast`).

    Source: Jiang et al. (2002), Music type classification by spectral contrast feature.
    """

    version: ClassVar[int] = 1
    n_bands: int = 6
    lowest_hz: float = 200.0
    quantile: float = 0.02

    @property
    def column_names(self) -> tuple[str, ...]:
        return number_columns("contrast_db", self.n_bands + 1)

    def __call__(self, analysis: Analysis) -> Tensor:
        magnitude = analysis.magnitude(self.stft)
        bands = find_contrast_bands(self.stft.sample_rate, self.stft.n_fft, self.n_bands, self.lowest_hz, self.quantile)
        valleys, peaks = convert_to_decibels(_average_extremes(magnitude, bands))
        contrast: Tensor = peaks - valleys
        return contrast


def _average_extremes(magnitude: Tensor, bands: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Return the mean of each band's smallest bins and of its largest, `(2, n_frames, n_bands)`.

    `bands` is the result of `find_contrast_bands`.
    """
    import torch

    sums = torch.empty((2, len(magnitude), len(bands)))
    for band, (first, last, size) in enumerate(bands):
        ordered = np.sort(magnitude[:, first:last].numpy())  # ten times as fast as torch
        np.add.reduce(ordered[:, :size], -1, out=sums[0, :, band].numpy())
        np.add.reduce(ordered[:, -size:], -1, out=sums[1, :, band].numpy())
    return sums / torch.tensor([size for _, _, size in bands])


def _divide_or_zero(values: Tensor, length: Tensor) -> Tensor:
    """Return `values / length`, 0 where the frame is silent."""
    return values / length.clamp_min(TINY)
