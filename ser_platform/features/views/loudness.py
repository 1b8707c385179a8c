"""What the stored root mean squares tell: how loud a clip is, where it sounds, and what a gain does to features."""

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

RMS_FAMILY = "rms"  # the family: natural log of a frame's root mean square, full scale 0
LN_PER_DB = math.log(10) / 20  # natural-log amplitude in a decibel


def compute_gain_weights(family: Family) -> NDArray[np.float32] | None:
    """Return what a gain of 1 in natural-log amplitude adds to each column, `(n_features,)`; None where it does more
    than add.

    Logarithms of energies move by twice the gain. The orthonormal DCT turns a constant over `n_mels` bands into its
    first coefficient times `sqrt(n_mels)`. (Energies at their floor, of digital silence, move along, where a gain on
    the samples would leave them.)
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
    """Frame levels of some clips, one after another: natural log of the root mean square, `(n_all_frames,)`.

    `lengths` says how many frames each clip has, `(n_clips,)`.
    """

    frames: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @classmethod
    def from_rms(cls, clips: Sequence[NDArray[np.float32]]) -> "FrameLevels":
        """Read the `rms` of clips, each `(n_frames, 1)`."""
        frames = np.concatenate([clip[:, 0] for clip in clips]).astype(np.float32, copy=False)
        return cls(frames, np.array([len(clip) for clip in clips], dtype=np.int64))

    @property
    def _first_frames(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths) - self.lengths

    def compute_clip_levels(self) -> NDArray[np.float32]:
        """Return the level of each whole clip in natural-log amplitude, full scale 0, `(n_clips,)`."""
        power = np.add.reduceat(np.exp(2.0 * self.frames.astype(np.float64)), self._first_frames) / self.lengths
        return (0.5 * np.log(power)).astype(np.float32)

    def find_sounding_part(self, under_db: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first frame of each clip within `under_db` of its loudest, and the frame after the last one."""
        loudest = np.maximum.reduceat(self.frames, self._first_frames)
        is_loud = self.frames >= np.repeat(loudest - under_db * LN_PER_DB, self.lengths)
        frame = np.arange(len(self.frames)) - np.repeat(self._first_frames, self.lengths)
        first = np.minimum.reduceat(np.where(is_loud, frame, len(self.frames)), self._first_frames)
        return first, np.maximum.reduceat(np.where(is_loud, frame, -1), self._first_frames) + 1
