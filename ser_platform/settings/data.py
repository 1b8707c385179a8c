"""`data.*`: which emotions, how many folds, and which part of a clip a model receives."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real, Whole, Word

Crop = Literal["head", "centre", "random"]
Pad = Literal["zeros", "repeat", "reflect"]


class DataSettings(Group, frozen=True):
    """The settings `data.*`."""

    labels: Word = "as_labelled"
    """the emotions and how labels are merged: as_labelled, shared, 4, 6, 7 or 8, then rules like 'drop calm'"""

    folds: Whole = Field(default=0, ge=0, le=20)
    """speaker-independent folds of the train and dev speakers: a trial trains one model a fold and is scored by the
    mean dev UAR; 0 trains one model on train and scores it on dev"""

    max_seconds: Real = Field(default=3.0, ge=0.2, le=60.0)
    """longest part of a clip that is a model's input, in seconds; features of whole clips ignore it"""

    crop: Crop = "centre"
    """the part of a longer clip that is kept; random draws another in every epoch, and evaluates on the centre"""

    skip_s: Real = Field(default=0.0, ge=0.0, le=10.0)
    """seconds skipped at the start of every clip, often silence; at least 0.1 s of each clip are kept"""

    min_seconds: Real = Field(default=0.0, ge=0.0, le=60.0)
    """shorter clips are padded to this length, in seconds (see data.pad); 0 pads none"""

    pad: Pad = "zeros"
    """what pads a clip to data.min_seconds: zeros (the mean of each column, once scaled), the clip again (repeat), or
    the clip backwards and forwards (reflect)"""

    trim_db: Real = Field(default=0.0, ge=0.0, le=100.0)
    """removes from both ends of a clip the frames that are this many dB below its loudest one, for instance 30; 0
    keeps the ends"""

    level_dbfs: Real = Field(default=0.0, ge=-60.0, le=0.0)
    """scales every clip to this level, in dB relative to full scale, for instance -20; 0 keeps the levels, which
    depend on anger but also on the microphone"""
