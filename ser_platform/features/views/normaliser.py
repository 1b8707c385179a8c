"""Normalisation: every column is scaled to zero mean and unit variance."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ser_platform.settings.features import Normalise

STD_FLOOR = 1e-5  # avoids a division by zero in a constant column
# By the statistics of all training clips, of the clip, of all clips of its speaker; or no scaling.
GLOBAL_NORMALISATION, UTTERANCE_NORMALISATION, SPEAKER_NORMALISATION, NO_NORMALISATION = get_args(Normalise)


def make_protocol_note(normalise: str) -> str | None:
    """Return the note that `features.normalise` adds to a protocol's stamp, None for no note.

    Per-speaker statistics use all clips of a test speaker, though not their labels. A single clip of an unknown speaker
    cannot be normalised so, and results are not comparable with those of the other normalisations.
    """
    return "per-speaker normalisation" if normalise == SPEAKER_NORMALISATION else None


@dataclass(frozen=True)
class Normaliser:
    """Mean and standard deviation of each column, both float32: `(n_features,)`, or `(n, n_features)` of n groups."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def from_sums(cls, n_frames: int | NDArray[np.int64], sums: NDArray[np.float64]) -> "Normaliser":
        """Fit from the sums and sums of squares over `n_frames` frames, `(2, n_features)`.

        With `n_frames` `(n,)` and `sums` `(n, 2, n_features)`, fit n groups at once.
        """
        counts = np.asarray(n_frames)[..., None]
        mean = sums[..., 0, :] / counts
        variance = np.maximum(sums[..., 1, :] / counts - mean**2, 0.0)
        return cls(mean.astype(np.float32), np.maximum(np.sqrt(variance), STD_FLOOR).astype(np.float32))

    @classmethod
    def identity(cls, n_features: int) -> "Normaliser":
        """Return a normaliser that changes nothing."""
        return cls(np.zeros(n_features, dtype=np.float32), np.ones(n_features, dtype=np.float32))

    @classmethod
    def concatenate(cls, parts: Iterable["Normaliser"]) -> "Normaliser":
        """Return one normaliser for the concatenated columns of several."""
        parts = list(parts)
        return cls(
            np.concatenate([part.mean for part in parts], axis=-1),
            np.concatenate([part.std for part in parts], axis=-1),
        )

    def take(self, groups: NDArray[np.int64]) -> "Normaliser":
        """Return the statistics of some groups, in the order given."""
        return Normaliser(self.mean[groups], self.std[groups])

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features `(..., n_features)`, scaled."""
        return (features - self.mean) / self.std
