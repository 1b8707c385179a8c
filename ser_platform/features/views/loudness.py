"""Loudness from stored root mean squares: levels of clips, sounding parts, and the effect of a gain on features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.features.families.family import Delta, Family, Stack
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.spectral import (
    Bandwidth,
    Centroid,
    Chroma,
    Contrast,
    DecibelMel,
    Flatness,
    LogMel,
    Mfcc,
    Rolloff,
    Tonnetz,
)
from ser_platform.features.families.temporal import Rms, Zcr

RMS_FAMILY = "rms"  # natural log of a frame's root mean square; full scale is 0
LN_PER_DB = math.log(10) / 20  # natural-log amplitude per decibel


def compute_gain_weights(family: Family) -> NDArray[np.float32] | None:
    """Return what a gain of 1 in natural-log amplitude adds to each column, `(n_features,)`.

    Returns None where the effect is not an added constant. Logarithms of energies change by twice the gain. The
    orthonormal DCT maps a constant over `n_mels` bands to its first coefficient, times `sqrt(n_mels)`. Energies at
    their floor (digital silence) change as well, unlike with a gain on the samples.
    """
    zeros = np.zeros(family.n_features, dtype=np.float32)
    match family:
        case LogMel():
            return zeros + 2
        case DecibelMel():
            return zeros if family.ref == "max" else zeros + 1 / LN_PER_DB
        case Mfcc():
            zeros[0] = math.sqrt(family.n_mels) * (1 / LN_PER_DB if family.scale == "db" else 2)
            return zeros
        case Rms(scale="ln"):
            return zeros + 1
        case Delta():
            return None if compute_gain_weights(family.family) is None else zeros
        case Stack():
            parts = [weights for member in family.members if (weights := compute_gain_weights(member)) is not None]
            return np.concatenate(parts) if len(parts) == len(family.members) else None
        case Bandwidth() | Centroid() | Chroma() | Contrast() | F0() | Flatness() | Rolloff() | Tonnetz() | Zcr():
            return zeros
        case _:
            return None


@dataclass(frozen=True)
class FrameLevels:
    """Frame levels of some clips, concatenated: natural log of the root mean square, `(n_all_frames,)`.

    `lengths` are the frames of each clip, `(n_clips,)`.
    """

    frames: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @classmethod
    def from_rms(cls, clips: Sequence[NDArray[np.float32]]) -> "FrameLevels":
        """Return the levels of clips from their `rms`, each `(n_frames, 1)`."""
        frames = np.concatenate([clip[:, 0] for clip in clips]).astype(np.float32, copy=False)
        return cls(frames, np.array([len(clip) for clip in clips], dtype=np.int64))

    @property
    def _first_frames(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths) - self.lengths

    def compute_clip_levels(self) -> NDArray[np.float32]:
        """Return the level of each whole clip in natural-log amplitude, `(n_clips,)`; full scale is 0."""
        power = np.add.reduceat(np.exp(2.0 * self.frames.astype(np.float64)), self._first_frames) / self.lengths
        return (0.5 * np.log(power)).astype(np.float32)

    def find_sounding_part(self, under_db: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first frame of each clip within `under_db` of its loudest frame, and the one after the last."""
        loudest = np.maximum.reduceat(self.frames, self._first_frames)
        is_loud = self.frames >= np.repeat(loudest - under_db * LN_PER_DB, self.lengths)
        frame = np.arange(len(self.frames)) - np.repeat(self._first_frames, self.lengths)
        first = np.minimum.reduceat(np.where(is_loud, frame, len(self.frames)), self._first_frames)
        return first, np.maximum.reduceat(np.where(is_loud, frame, -1), self._first_frames) + 1
