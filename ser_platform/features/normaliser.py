"""Scaling every column to zero mean and unit variance, fitted on training clips from stored sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STD_FLOOR = 1e-5  # a constant column would divide by zero


@dataclass(frozen=True)
class Normaliser:
    """Mean and standard deviation of each column, both `(n_features,)` float32."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def from_sums(cls, n_frames: int, sums: NDArray[np.float64], squares: NDArray[np.float64]) -> "Normaliser":
        """Fit from the sum and the sum of squares of `n_frames` frames, each `(n_features,)`."""
        mean = sums / n_frames
        variance = np.maximum(squares / n_frames - mean**2, 0.0)
        return cls(mean.astype(np.float32), np.maximum(np.sqrt(variance), STD_FLOOR).astype(np.float32))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale features `(..., n_features)`."""
        return (features - self.mean) / self.std
