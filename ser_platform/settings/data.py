"""`data.*`: which emotions, how many folds, and which part of a clip a model receives."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real, Whole, Word

Crop = Literal["head", "centre", "random"]
Pad = Literal["zeros", "repeat", "reflect"]


class DataSettings(Group, frozen=True):
    """The settings `data.*`."""

    labels: Word = Field(
        default="as_labelled",
        description="which emotions count as what: as_labelled, shared, 4, 6, 7 or 8, then rules like 'drop calm'",
    )
    folds: Whole = Field(
        default=0,
        description="folds of a study's trials: each trains so many models, kept from other speakers of train and "
        "dev, and is scored by the mean dev UAR; 0 trains one, judged by dev",
        ge=0,
        le=20,
    )
    max_seconds: Real = Field(
        default=3.0,
        description="longest part of a clip that a model sees, in seconds; features of whole clips ignore it",
        ge=0.2,
        le=60.0,
    )
    crop: Crop = Field(
        default="centre",
        description="which part of a longer clip is kept; random draws another in every epoch, and judges by the "
        "centre",
    )
    skip_s: Real = Field(
        default=0.0,
        description="seconds skipped at the start of every clip, often silence; 0.1 s are always left",
        ge=0.0,
        le=10.0,
    )
    min_seconds: Real = Field(
        default=0.0,
        description="shorter clips are continued up to this, in seconds (see data.pad); 0 leaves each its length",
        ge=0.0,
        le=60.0,
    )
    pad: Pad = Field(
        default="zeros",
        description="what continues a clip up to data.min_seconds: zeros (each column's mean, once scaled), the "
        "clip again (repeat), or the clip backwards and forwards (reflect)",
    )
    trim_db: Real = Field(
        default=0.0,
        description="cut off both ends of a clip what is this many dB under its loudest frame, for instance 30; 0 "
        "keeps the ends",
        ge=0.0,
        le=100.0,
    )
    level_dbfs: Real = Field(
        default=0.0,
        description="bring every clip to this level, in dB under full scale, for instance -20; 0 keeps the levels, "
        "which tell of anger but also of the microphone",
        ge=-60.0,
        le=0.0,
    )
