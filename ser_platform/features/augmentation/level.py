"""Gain and pre-emphasis."""

from dataclasses import dataclass

import numpy as np

from ser_platform.features.augmentation.transform import Range, Samples, Transform, check_range, draw_uniform


@dataclass(frozen=True)
class Gain(Transform):
    """A change of level; peaks may exceed full scale."""

    db: Range = (-6.0, 6.0)  # dB

    def __post_init__(self) -> None:
        check_range("db", self.db, -60, 60)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        return samples * np.float32(10 ** (draw_uniform(self.db, rng) / 20))


@dataclass(frozen=True)
class PreEmphasis(Transform):
    """`y[n] = x[n] - coefficient * x[n - 1]`: raises high frequencies and lowers the level, of speech by 2 to 13 dB.

    Source: Rabiner & Schafer (1978), Digital Processing of Speech Signals; 0.97 is the default of HTK.
    """

    coefficient: float = 0.97

    def __post_init__(self) -> None:
        check_range("coefficient", (self.coefficient, self.coefficient), 0, 0.999)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        import torch
        import torchaudio

        lifted: Samples = torchaudio.functional.preemphasis(torch.tensor(samples), self.coefficient).numpy()
        return lifted
