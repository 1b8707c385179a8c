"""A view: which columns and frames of the stored features a model sees, how they are scaled. It computes nothing."""

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
from ser_platform.features.views.loudness import RMS_FAMILY, gain_weights
from ser_platform.features.views.normaliser import UTTERANCE_NORMALISATION
from ser_platform.features.views.pooling import NO_POOL, POOLS
from ser_platform.settings import Settings
from ser_platform.settings.data import Crop, Pad
from ser_platform.settings.features import Normalise

MIN_REMAINING_S = 0.1  # seconds that skipping and trimming leave of any clip: shorter holds no syllable
CHOICES = {
    "data.crop": ("crop", get_args(Crop)),
    "data.pad": ("pad", get_args(Pad)),
    "features.pool": ("pool", tuple(POOLS)),
    "features.normalise": ("normalise", get_args(Normalise)),
}


@dataclass(frozen=True)
class FeatureView:
    """Feature sets side by side, of a part of each clip, scaled. Fields are named as the settings that they come from.

    In order: frames are skipped and trimmed at the ends, the rest is cropped; columns get the gain; they are pooled;
    scaled; short clips are padded; models hear chunks of what is left.

    Attributes:
        sets: feature sets of one frame rate.
        n_mfcc: columns used of the sets `mfcc` and `mfcc_delta`.
        max_seconds, crop: longest part that is seen, and which part: head, centre, or in training random.
        skip_s: seconds skipped at the start.
        min_seconds, pad: shortest part that is seen, and what a shorter clip is continued with.
        trim_db: what is so much quieter than the clip's loudest frame is cut off at both ends; 0 leaves the ends.
        level_dbfs: the level that every clip is brought to; 0 leaves its own.
        pool: statistics over frames in place of the frames.
        chunk, chunk_hop: frames of a chunk, and from one to the next; 0 is whole clips, and chunks without overlap.
        normalise: whose statistics scale a clip; always those of whole clips, whatever part of them is seen.

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
                f"features.chunk_hop {self.chunk_hop} is more than features.chunk {self.chunk}: frames would be left"
                " out"
            )
        if math.isinf(self.frame_s):
            self._refuse_frame_settings(f"features.sets {list(self.sets)}: a clip has one row of them, no frames")
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
            rates_text = ", ".join(f"{name} {_rate(FAMILIES[name].frame_s)}" for name in self.sets)
            raise UserError(
                f"features.sets {list(self.sets)} differ in frame rate ({rates_text}); waveform stands alone, and so "
                "does "
                "every set with frames of its own"
            )

    def _refuse_frame_settings(self, why: str) -> None:
        """Refuse what only frames can have."""
        given = {
            "data.skip_s": self.skip_s,
            "data.trim_db": self.trim_db,
            "data.min_seconds": self.min_seconds,
            "features.pool": 0 if self.pool == NO_POOL else self.pool,
            "features.chunk": self.chunk,
            "features.normalise": self.normalise if self.normalise == UTTERANCE_NORMALISATION else 0,
        }
        for name, value in given.items():
            if value:
                raise UserError(f"{why}, so {name} {value} cannot be")

    def _check_pool(self) -> None:
        why = f"features.pool {self.pool} leaves one row of a clip"
        if "waveform" in self.sets:
            raise UserError(f"{why}, and that of its samples says nothing; pool frame features")
        if self.crop == "random":
            raise UserError(f"{why}, computed once: data.crop random cannot be; take head or centre")
        for name, value in (("data.min_seconds", self.min_seconds), ("features.chunk", self.chunk)):
            if value:
                raise UserError(f"{why}, so {name} {value:g} cannot be")
        if self.normalise == UTTERANCE_NORMALISATION:
            raise UserError(f"{why}, whose mean features.normalise utterance would make 0; take global or speaker")

    def _check_level(self) -> None:
        fixed = [name for name in self.sets if gain_weights(FAMILIES[name]) is None]
        if fixed:
            able = [name for name, family in FAMILIES.items() if gain_weights(family) is not None]
            raise UserError(
                f"data.level_dbfs {self.level_dbfs:g}: a gain is no constant added to {', '.join(fixed)}; valid are "
                f"{', '.join(able)}"
            )

    @classmethod
    def from_settings(cls, settings: Settings, sets: tuple[str, ...]) -> "FeatureView":
        """Build the view of a configuration; `sets` are the ones its model takes.

        Raises:
            UserError: the settings contradict each other.
        """
        return cls(
            sets,
            n_mfcc=settings.features.n_mfcc,
            pool=settings.features.pool,
            chunk=settings.features.chunk,
            chunk_hop=settings.features.chunk_hop,
            normalise=settings.features.normalise,
            max_seconds=settings.data.max_seconds,
            crop=settings.data.crop,
            skip_s=settings.data.skip_s,
            min_seconds=settings.data.min_seconds,
            pad=settings.data.pad,
            trim_db=settings.data.trim_db,
            level_dbfs=settings.data.level_dbfs,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FeatureView":
        """Read what `dataclasses.asdict` gave; what an older version did not know has its default.

        Raises:
            UserError: it was written by a newer version.
        """
        known = {field.name for field in fields(cls)}
        for name in sorted(content.keys() - known):
            raise UserError(f"the feature view has {name!r}, which this version does not know; a newer one wrote it")
        return cls(**{**content, "sets": tuple(content["sets"])})

    @property
    def frame_s(self) -> float:
        """Seconds from one row to the next."""
        return FAMILIES[self.sets[0]].frame_s

    @property
    def max_frames(self) -> int:
        return max(1, self._frames(self.max_seconds))

    @property
    def min_frames(self) -> int:
        return self._frames(self.min_seconds)

    def _frames(self, seconds: float) -> int:
        # Rounded first: 3 s of 10 ms frames are 300, whatever 3 / 0.01 is in binary.
        return int(round(seconds / self.frame_s, 6))

    @property
    def is_pooled(self) -> bool:
        """Whether a clip is one row of statistics."""
        return self.pool != NO_POOL

    @property
    def required_families(self) -> tuple[str, ...]:
        """The families that must be stored: the sets, and `rms` where levels are asked for."""
        uses_levels = bool(self.trim_db or self.level_dbfs)
        return (*self.sets, RMS_FAMILY) if uses_levels and RMS_FAMILY not in self.sets else self.sets

    @property
    def chunks(self) -> Chunks | None:
        """The windows that a model hears one by one, or None where it hears whole clips."""
        return Chunks(self.chunk, self.chunk_hop or self.chunk) if self.chunk else None

    def width(self, name: str) -> int:
        """Return how many columns of feature set `name` are used."""
        family = FAMILIES[name]
        return min(self.n_mfcc, family.n_features) if _is_mfcc(family) else family.n_features

    @property
    def n_columns(self) -> int:
        """How many columns a frame has."""
        return sum(self.width(name) for name in self.sets)

    @property
    def n_features(self) -> int:
        """How many columns a model sees."""
        return self.n_columns * max(1, len(POOLS[self.pool]))

    @property
    def gain_weights(self) -> NDArray[np.float32]:
        """What a gain of 1 in natural-log amplitude adds to each column, `(n_columns,)`; where `level_dbfs` is set."""
        weights = [gain_weights(FAMILIES[name]) for name in self.sets]
        return np.concatenate([w[: self.width(name)] for name, w in zip(self.sets, weights, strict=True)])  # type: ignore[index]

    def locate_part(
        self, n_frames: NDArray[np.int64], sounding: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first frame of each clip behind what is skipped and trimmed, and how many are left to crop.

        Args:
            n_frames: of each clip, `(n_clips,)`.
            sounding: first frame that sounds and the one after the last, each `(n_clips,)` and counted in frames of
                `rms`; None does not trim.
        """
        if sounding is None:
            first, stop = np.zeros_like(n_frames), n_frames
        else:
            ratio = FAMILIES[RMS_FAMILY].frame_s / self.frame_s
            first, stop = (np.ceil(np.round(end * ratio, 6)).astype(np.int64) for end in sounding)
            stop = np.minimum(stop, n_frames)
        least = np.minimum(n_frames, math.ceil(round(MIN_REMAINING_S / self.frame_s, 6)))
        first = np.minimum(np.maximum(first, self._frames(self.skip_s)), np.maximum(stop - least, 0))
        return first, np.maximum(stop, first + least) - first

    def choose_crop_offsets(
        self, n_cropped: NDArray[np.int64], clips: NDArray[np.int64], seed: int, epoch: int | None
    ) -> NDArray[np.int64]:
        """Return how many frames are cropped before the kept ones, `(n_clips,)`.

        Args:
            room: frames that are cropped in all, `(n_clips,)`.
            clips: numbers of the clips, `(n_clips,)`.
            seed, epoch: of training, which a random crop depends on; without an epoch it is centred.
        """
        if self.crop == "head":
            return np.zeros_like(n_cropped)
        if self.crop == "centre" or epoch is None:
            return n_cropped // 2
        return (_hash_numbers(clips, seed, epoch) % (n_cropped + 1).astype(np.uint64)).astype(np.int64)


def _is_mfcc(family: Family) -> bool:
    return isinstance(family, Mfcc) or (isinstance(family, Delta) and _is_mfcc(family.family))


def _rate(frame_s: float) -> str:
    return "one row a clip" if math.isinf(frame_s) else f"{1 / frame_s:.4g} Hz"


def _hash_numbers(numbers: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return 64 random bits for each number, the same whatever stands beside it.

    Source: SplitMix64, Steele, Lea & Flood (2014), Fast splittable pseudorandom number generators, OOPSLA.
    """
    start = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    bits = start + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return mixed
