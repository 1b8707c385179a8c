"""Views: the columns and frames of stored features that are a model's input, and their scaling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ser_platform.errors import UnknownChoice, UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.family import Delta, Family
from ser_platform.features.families.spectral import Mfcc
from ser_platform.features.views.chunks import Chunks
from ser_platform.features.views.loudness import RMS_FAMILY, compute_gain_weights
from ser_platform.features.views.normaliser import UTTERANCE_NORMALISATION
from ser_platform.features.views.pooling import NO_POOL, POOLS
from ser_platform.settings import Settings
from ser_platform.settings.data import Crop, Pad
from ser_platform.settings.features import Normalise

MIN_REMAINING_S = 0.1  # skipping and trimming leave at least this much of a clip, about a syllable
CHOICES = {
    "data.crop": ("crop", get_args(Crop)),
    "data.pad": ("pad", get_args(Pad)),
    "features.pool": ("pool", tuple(POOLS)),
    "features.normalise": ("normalise", get_args(Normalise)),
}


@dataclass(frozen=True)
class FeatureView:
    """Concatenated feature sets of a part of each clip, scaled. Fields have the names of their settings.

    In this order: frames are skipped and trimmed at the ends, the rest is cropped, the gain is added to columns, frames
    are pooled, columns are scaled, short clips are padded, and the result is cut into chunks.

    Attributes:
        sets: feature sets of one frame rate.
        n_mfcc: number of columns used of the sets `mfcc` and `mfcc_delta`.
        max_seconds, crop: longest part used, and its place: head, centre, or random (in training).
        skip_s: seconds skipped at the start.
        min_seconds, pad: shortest length, and how shorter clips are padded.
        trim_db: frames this much quieter than the clip's loudest frame are trimmed at both ends; 0 is off.
        level_dbfs: level to which every clip is scaled; 0 is off.
        pool: statistics over frames that replace the frames.
        chunk, chunk_hop: frames of a chunk (0 is whole clips), and from one to the next (0 is no overlap).
        normalise: the statistics that scale a clip; they are of whole clips, also where a part is used.

    Raises:
        UserError: fields contradict each other.
    """

    sets: tuple[str, ...]
    n_mfcc: int
    max_seconds: float
    crop: str
    skip_s: float = 0.0
    min_seconds: float = 0.0
    pad: str = "zeros"
    trim_db: float = 0.0
    level_dbfs: float = 0.0
    pool: str = NO_POOL
    chunk: int = 0
    chunk_hop: int = 0
    normalise: str = "global"

    def __post_init__(self) -> None:
        self._check_sets()
        for setting, (field, choices) in CHOICES.items():
            if getattr(self, field) not in choices:
                raise UnknownChoice(setting, getattr(self, field), choices)
        if self.min_seconds > self.max_seconds:
            raise UserError(f"data.min_seconds {self.min_seconds:g} is more than data.max_seconds {self.max_seconds:g}")
        if self.chunk_hop > self.chunk:
            raise UserError(
                f"features.chunk_hop {self.chunk_hop} is more than features.chunk {self.chunk}: frames would be skipped"
            )
        if math.isinf(self.frame_s):
            self._refuse_frame_settings(f"features.sets {list(self.sets)} have one row per clip, no frames")
        if self.is_pooled:
            self._check_pool()
        if self.level_dbfs:
            self._check_level()

    def _check_sets(self) -> None:
        for name in self.sets:
            if name not in FAMILIES:
                raise UnknownChoice("features.sets", name, FAMILIES)
        rates = {FAMILIES[name].frame_s for name in self.sets}
        if len(rates) != 1:
            rates_text = ", ".join(f"{name} {_format_rate(FAMILIES[name].frame_s)}" for name in self.sets)
            raise UserError(
                f"features.sets {list(self.sets)} differ in frame rate ({rates_text}); choose sets of one rate, or "
                "waveform alone"
            )

    def _refuse_frame_settings(self, why: str) -> None:
        """Raise UserError where a setting that requires frames is given."""
        given = {
            "data.skip_s": self.skip_s,
            "data.trim_db": self.trim_db,
            "data.min_seconds": self.min_seconds,
            "features.pool": self.pool if self.is_pooled else 0,
            "features.chunk": self.chunk,
            "features.normalise": self.normalise if self.normalise == UTTERANCE_NORMALISATION else 0,
        }
        _refuse_given(given, why)

    def _check_pool(self) -> None:
        why = f"features.pool {self.pool} makes one row per clip"
        if "waveform" in self.sets:
            raise UserError(f"{why}, which is meaningless for samples; pool frame features")
        if self.crop == "random":
            raise UserError(f"{why}, computed once, so data.crop random cannot be used; use head or centre")
        _refuse_given({"data.min_seconds": self.min_seconds, "features.chunk": self.chunk}, why)
        if self.normalise == UTTERANCE_NORMALISATION:
            raise UserError(f"{why}, which features.normalise utterance would make 0; use global or speaker")

    def _check_level(self) -> None:
        fixed = [name for name in self.sets if compute_gain_weights(FAMILIES[name]) is None]
        if fixed:
            able = [name for name, family in FAMILIES.items() if compute_gain_weights(family) is not None]
            raise UserError(
                f"data.level_dbfs {self.level_dbfs:g} cannot be used with {', '.join(fixed)}; valid features.sets are "
                f"{', '.join(able)}"
            )

    @classmethod
    def from_settings(cls, settings: Settings, sets: tuple[str, ...]) -> "FeatureView":
        """Return the view of a configuration; `sets` are the feature sets of its model.

        Raises:
            UserError: the settings contradict each other.
        """
        values = vars(settings.data) | vars(settings.features) | {"sets": sets}
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FeatureView":
        """Return the view in the JSON of its fields; fields that are missing have their default.

        Raises:
            UserError: a field is unknown: a newer version wrote it.
        """
        known = {field.name for field in fields(cls)}
        for name in sorted(content.keys() - known):
            raise UserError(f"the feature view has the unknown field {name!r}: a newer version wrote it; upgrade")
        return cls(**{**content, "sets": tuple(content["sets"])})

    @property
    def frame_s(self) -> float:
        """Seconds from one row to the next."""
        return FAMILIES[self.sets[0]].frame_s

    @property
    def max_frames(self) -> int:
        return max(1, self._count_frames(self.max_seconds))

    @property
    def min_frames(self) -> int:
        return self._count_frames(self.min_seconds)

    def _count_frames(self, seconds: float) -> int:
        # Rounded first, so that 3 s of 10 ms frames are 300 despite binary rounding.
        return int(round(seconds / self.frame_s, 6))

    @property
    def is_pooled(self) -> bool:
        """Whether frames are pooled, so that a clip is one row."""
        return self.pool != NO_POOL

    @property
    def required_families(self) -> tuple[str, ...]:
        """The families that must be stored: the sets, and `rms` where levels are used."""
        uses_levels = bool(self.trim_db or self.level_dbfs)
        return (*self.sets, RMS_FAMILY) if uses_levels and RMS_FAMILY not in self.sets else self.sets

    @property
    def chunks(self) -> Chunks | None:
        """The chunks that are a model's input, None for whole clips."""
        return Chunks(self.chunk, self.chunk_hop or self.chunk) if self.chunk else None

    def count_columns(self, name: str) -> int:
        """Return the number of columns used of feature set `name`."""
        family = FAMILIES[name]
        return min(self.n_mfcc, family.n_features) if _is_mfcc(family) else family.n_features

    @property
    def n_columns(self) -> int:
        """Number of columns of a frame."""
        return sum(self.count_columns(name) for name in self.sets)

    @property
    def n_features(self) -> int:
        """Number of columns of a model's input."""
        return self.n_columns * max(1, len(POOLS[self.pool]))

    @property
    def gain_weights(self) -> NDArray[np.float32]:
        """What a gain of 1 in natural-log amplitude adds to each column, `(n_columns,)`; only with `level_dbfs`."""
        weights = [compute_gain_weights(FAMILIES[name]) for name in self.sets]
        return np.concatenate([w[: self.count_columns(name)] for name, w in zip(self.sets, weights, strict=True)])  # type: ignore[index]

    def locate_part(
        self, n_frames: NDArray[np.int64], sounding: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first frame of each clip after skipping and trimming, and the number of frames left.

        Args:
            n_frames: frames of each clip, `(n_clips,)`.
            sounding: first frame of the sounding part and the frame after it, each `(n_clips,)`, in frames of `rms`;
                None does not trim.
        """
        if sounding is None:
            first, stop = np.zeros_like(n_frames), n_frames
        else:
            ratio = FAMILIES[RMS_FAMILY].frame_s / self.frame_s
            first, stop = (np.ceil(np.round(end * ratio, 6)).astype(np.int64) for end in sounding)
            stop = np.minimum(stop, n_frames)
        least = np.minimum(n_frames, math.ceil(round(MIN_REMAINING_S / self.frame_s, 6)))
        first = np.minimum(np.maximum(first, self._count_frames(self.skip_s)), np.maximum(stop - least, 0))
        return first, np.maximum(stop, first + least) - first

    def choose_crop_offsets(
        self, n_cropped: NDArray[np.int64], clips: NDArray[np.int64], seed: int, epoch: int | None
    ) -> NDArray[np.int64]:
        """Return the number of frames cropped before the kept ones, `(n_clips,)`.

        Args:
            n_cropped: frames cropped at both ends together, `(n_clips,)`.
            clips: numbers of the clips, `(n_clips,)`.
            seed, epoch: of training; they determine a random crop, which is centred without an epoch.
        """
        if self.crop == "head":
            return np.zeros_like(n_cropped)
        if self.crop == "centre" or epoch is None:
            return n_cropped // 2
        return (_hash_numbers(clips, seed, epoch) % (n_cropped + 1).astype(np.uint64)).astype(np.int64)


def _refuse_given(given: Mapping[str, object], why: str) -> None:
    for name, value in given.items():
        if value:
            raise UserError(f"{why}, so {name} {value} cannot be used")


def _is_mfcc(family: Family) -> bool:
    return isinstance(family, Mfcc) or (isinstance(family, Delta) and _is_mfcc(family.family))


def _format_rate(frame_s: float) -> str:
    return "one row per clip" if math.isinf(frame_s) else f"{1 / frame_s:.4g} Hz"


def _hash_numbers(numbers: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return 64 random bits for each number, independent of the other numbers.

    Source: SplitMix64, Steele, Lea & Flood (2014), Fast splittable pseudorandom number generators, OOPSLA.
    """
    start = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    bits = start + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return mixed
