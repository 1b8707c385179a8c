"""When and how much: a clip moved in time, or a part of it."""

from dataclasses import dataclass

import numpy as np

from ser_platform.corpora.audio.reader import SILENCE_PEAK
from ser_platform.features.augmentation.transform import Range, Samples, Transform, check_range, draw_uniform


@dataclass(frozen=True)
class TimeShift(Transform):
    """The clip later (positive) or earlier, zeros where it came from; what passes an end is lost, never the loudest."""

    seconds: Range = (-0.2, 0.2)  # s

    def __post_init__(self) -> None:
        check_range("seconds", self.seconds, -60, 60)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        loudest = int(np.abs(samples).argmax())
        shift = round(draw_uniform(self.seconds, rng) * sample_rate)
        shift = min(max(shift, -loudest), len(samples) - 1 - loudest)
        moved = np.zeros_like(samples)
        moved[max(shift, 0) : len(samples) + min(shift, 0)] = samples[max(-shift, 0) : len(samples) - max(shift, 0)]
        return moved


@dataclass(frozen=True)
class RandomCrop(Transform):
    """At most `seconds` of the clip, from a random place that is not silent. Changes the length."""

    seconds: float = 2.0  # s

    def __post_init__(self) -> None:
        check_range("seconds", (self.seconds, self.seconds), 0.1, 120)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        return draw_loud_part(samples, min(len(samples), round(self.seconds * sample_rate)), rng)


def draw_loud_part(samples: Samples, n_samples: int, rng: np.random.Generator) -> Samples:
    """Return `n_samples` in a row from a random place; from around the loudest sample where that place is silent."""
    last = len(samples) - n_samples
    first = int(rng.integers(last + 1))
    if np.abs(samples[first : first + n_samples]).max() < SILENCE_PEAK * np.abs(samples).max():
        loudest = int(np.abs(samples).argmax())
        first = int(rng.integers(max(0, loudest - n_samples + 1), min(loudest, last) + 1))
    return samples[first : first + n_samples]
