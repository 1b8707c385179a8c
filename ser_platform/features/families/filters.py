"""The fixed matrices that map a spectrum to features, computed in double precision and stored in single precision.

They agree with librosa's to single precision; importing librosa takes seconds.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

A0 = 27.5  # Hz
FILTERS_IN_GROUP = 32
OCTAVE_CENTRE, OCTAVE_WIDTH = 5.0, 2.0  # octaves over A0: centre and width of the weighting


def _to_tensor(matrix: NDArray[np.float64]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32))


@lru_cache
def make_bin_numbers(n_bins: int) -> Tensor:
    """Return 0, 1, ... as floats, `(n_bins,)`."""
    return _to_tensor(np.arange(n_bins, dtype=np.float64))


@lru_cache
def make_mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> tuple[tuple[int, int, Tensor], ...]:
    """Return triangular filters of equal area on Slaney's mel scale.

    Filters are zero over most bins, so they are returned in groups of neighbours: first bin, bin after the last, and
    weights `(last - first, n_filters)`. This takes a quarter of the products. Sparse matrices would need a transposed
    spectrum, which takes longer than they save.

    Source: Slaney, Auditory Toolbox (1998): linear to 1 kHz (15 mel), then 27 steps for a factor of 6.4.
    """
    top = 3 * (sample_rate / 2) / 200 if sample_rate < 2000 else 15 + 27 * np.log(sample_rate / 2000) / np.log(6.4)
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))  # Hz
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    groups = []
    for start in range(0, n_mels, FILTERS_IN_GROUP):
        group = weights[:, start : start + FILTERS_IN_GROUP]
        used = np.flatnonzero(group.any(axis=1))
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        groups.append((first, last, _to_tensor(group[first:last])))
    return tuple(groups)


@lru_cache
def make_dct_matrix(n_mfcc: int, n_mels: int) -> Tensor:
    """Return the first `n_mfcc` rows of the orthonormal DCT-II, transposed: `(n_mels, n_mfcc)`."""
    band, order = np.arange(n_mels)[:, None] + 0.5, np.arange(n_mfcc)
    matrix = np.sqrt(2 / n_mels) * np.cos(np.pi / n_mels * band * order)
    matrix[:, 0] /= np.sqrt(2)
    return _to_tensor(matrix)


@lru_cache
def make_chroma_filters(sample_rate: int, n_fft: int) -> Tensor:
    """Return the weight of each bin for the twelve pitch classes from C on, A4 = 440 Hz, `(n_fft // 2 + 1, 12)`.

    Source: Ellis, Chroma feature analysis and synthesis (2007), as in `librosa.filters.chroma` with tuning 0.
    """
    semitones = 12 * np.log2(np.arange(1, n_fft) * sample_rate / n_fft / A0)
    semitones = np.concatenate(([semitones[0] - 18], semitones))  # 0 Hz: an octave and a half under the next bin
    widths = np.append(np.maximum(np.diff(semitones), 1.0), 1.0)
    distance = np.remainder(semitones[:, None] - np.arange(12) + 6, 12) - 6
    weights = np.exp(-0.5 * (2 * distance / widths[:, None]) ** 2)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    weights *= np.exp(-0.5 * ((semitones / 12 - OCTAVE_CENTRE) / OCTAVE_WIDTH) ** 2)[:, None]
    return _to_tensor(np.roll(weights, -3, axis=1)[: n_fft // 2 + 1])  # from A to C


@lru_cache
def make_tonnetz_matrix() -> Tensor:
    """Return the twelve pitch classes on the circles of fifths, minor thirds and major thirds, `(12, 6)`.

    Source: Harte, Sandler & Gasser (2006), Detecting harmonic change in musical audio.
    """
    steps = np.array([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3]) * np.arange(12)[:, None]
    steps = steps - np.array([0.5, 0, 0.5, 0, 0.5, 0])  # a cosine a quarter turn back is a sine
    return _to_tensor(np.array([1, 1, 1, 1, 0.5, 0.5]) * np.cos(np.pi * steps))


@lru_cache
def find_contrast_bands(
    sample_rate: int, n_fft: int, n_bands: int, lowest_hz: float, quantile: float
) -> tuple[tuple[int, int, int], ...]:
    """Return first bin, bin after the last, and number of bins in the quantile, for each octave band.

    Neighbouring bands share a bin and the top band has all bins above, as in `librosa.feature.spectral_contrast`.

    Raises:
        ValueError: the highest band begins above half of the sample rate.
    """
    edges = np.concatenate(([0.0], lowest_hz * 2.0 ** np.arange(n_bands + 1)))
    if edges[-2] >= sample_rate / 2:
        raise ValueError(f"contrast band from {edges[-2]:g} Hz is above half of {sample_rate} Hz; use fewer bands")
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    bands = []
    for band, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((bins >= low) & (bins <= high))
        first = inside[0] - 1 if band else inside[0]
        last = len(bins) if band == n_bands else inside[-1] + 1
        size = max(1, int(np.rint(quantile * (last - first))))
        bands.append((int(first), int(last) if band == n_bands else int(last) - 1, size))
    return tuple(bands)


@lru_cache
def make_savgol_weights(width: int, order: int) -> Tensor:
    """Return weights `(width,)`: their weighted sum over a window is the `order`-th derivative of the polynomial of
    degree `order` fitted to it (Savitzky & Golay, 1964).
    """
    offsets = np.arange(width) - width // 2
    fit = np.linalg.pinv(np.vander(offsets, order + 1, increasing=True))
    return _to_tensor(fit[order] * np.prod(np.arange(1, order + 1)))
