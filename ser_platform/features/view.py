"""A view: which columns and frames of the stored features a model sees. Changing a view computes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio import Audio
from ser_platform.errors import UserError
from ser_platform.features import FEATURE_SETS
from ser_platform.features.families import compute
from ser_platform.settings import Settings


@dataclass(frozen=True)
class FeatureView:
    """Feature sets side by side, at most `max_seconds` of a clip."""

    sets: tuple[str, ...]
    n_mfcc: int
    max_seconds: float
    crop: str  # "head" or "centre"

    def __post_init__(self) -> None:
        if len({FEATURE_SETS[name].frame_s for name in self.sets}) != 1:
            raise UserError(f"features.sets {list(self.sets)} differ in frame rate; waveform stands alone")

    @classmethod
    def from_settings(cls, settings: Settings, sets: tuple[str, ...]) -> "FeatureView":
        """Build the view of a configuration; `sets` are the ones its model takes."""
        return cls(sets, settings["features.n_mfcc"], settings["data.max_seconds"], settings["data.crop"])

    @property
    def max_frames(self) -> int:
        # Rounded first: 3 s of 10 ms frames are 300, whatever 3 / 0.01 is in binary.
        return max(1, int(round(self.max_seconds / FEATURE_SETS[self.sets[0]].frame_s, 6)))

    def width(self, name: str) -> int:
        """Return how many columns of feature set `name` are used."""
        return self.n_mfcc if name == "mfcc" else FEATURE_SETS[name].n_features

    @property
    def n_features(self) -> int:
        return sum(self.width(name) for name in self.sets)

    def frames(self, n_frames: int) -> slice:
        """Return which of a clip's `n_frames` are kept."""
        kept = min(n_frames, self.max_frames)
        first = (n_frames - kept) // 2 if self.crop == "centre" else 0
        return slice(first, first + kept)

    def apply(self, families: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return `(n_frames, n_features)` of one clip from its families' features."""
        frames = self.frames(len(families[self.sets[0]]))
        return np.concatenate([families[name][frames, : self.width(name)] for name in self.sets], axis=1)

    def of_audio(self, audio: Audio) -> NDArray[np.float32]:
        """Return `(n_frames, n_features)` of a whole clip: the path that prediction takes."""
        return self.apply(compute(audio, self.sets, FEATURE_SETS))
