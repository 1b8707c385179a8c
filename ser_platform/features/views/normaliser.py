"""Scaling every column to zero mean and unit variance, by statistics of the training clips, the clip or its speaker."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ser_platform.settings.features import Normalise

STD_FLOOR = 1e-5  # a constant column would divide by zero
# Whose statistics: all training clips', the clip's own, its speaker's; or nothing is scaled.
GLOBAL_NORMALISATION, UTTERANCE_NORMALISATION, SPEAKER_NORMALISATION, NO_NORMALISATION = get_args(Normalise)


def make_protocol_note(normalise: str) -> str | None:
    """Return what a protocol's stamp must add under `features.normalise`, or None where there is nothing to tell.

    Per-speaker statistics rest on all clips of a test speaker, though not on their labels: whoever has a single clip of
    an unknown voice cannot have them, so figures reached so stand apart.
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
        """Return one that changes nothing."""
        return cls(np.zeros(n_features, dtype=np.float32), np.ones(n_features, dtype=np.float32))

    @classmethod
    def concatenate(cls, parts: Iterable["Normaliser"]) -> "Normaliser":
        """Join the columns of several."""
        joined = list(parts)
        return cls(
            np.concatenate([part.mean for part in joined], axis=-1),
            np.concatenate([part.std for part in joined], axis=-1),
        )

    def take(self, groups: NDArray[np.int64]) -> "Normaliser":
        """Return the statistics of some groups, in that order."""
        return Normaliser(self.mean[groups], self.std[groups])

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale features `(..., n_features)`."""
        return (features - self.mean) / self.std
