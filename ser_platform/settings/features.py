"""`features.*`: which features, and how they are pooled, cut into chunks and scaled."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ser_platform.settings.values import Group, Names, Registered, Whole, Word

FeatureDtype = Literal["float32", "float16"]
Normalise = Literal["global", "utterance", "speaker", "none"]
# Sets stand side by side in this order, in whatever order they are named; others follow as they are named. The order is
# part of the digests of stored studies and of the columns of stored models: it stays, and a new set need not be in it.
ORDER = (
    *("log_mel", "mfcc", "zcr", "rms", "mfcc_delta", "f0", "chroma", "centroid", "bandwidth", "rolloff"),
    *("flatness", "contrast", "tonnetz", "vector180", "vector184", "vector193", "frames201", "chunks128"),
    *("egemaps", "compare", "waveform"),
)
OF_AN_ENCODER = r".+\.(statistics|frames)"  # as `features.families` names what an encoder makes of a clip


def _side_by_side(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*(name for name in ORDER if name in names), *(name for name in names if name not in ORDER))


class FeatureSettings(Group, frozen=True):
    """The settings `features.*`."""

    sets: Annotated[Names, AfterValidator(_side_by_side), Registered(OF_AN_ENCODER)] = Field(
        default=("log_mel",),
        description="features, side by side where they have the same frames: families, or the set of a published "
        "system; or what a pretrained encoder makes of a clip, ENCODER.statistics (one row) or ENCODER.frames",
    )
    n_mfcc: Whole = Field(
        default=20,
        description="how many of the 40 stored MFCC, and of their deltas, are used",
        ge=1,
        le=40,
    )
    dtype: FeatureDtype = Field(
        default="float32",
        description="how features are stored; float16 is half the size, with 3 digits",
    )
    pool: Annotated[Word, Registered()] = Field(
        default="none",
        description="statistics over a clip's frames in place of the frames: one row, for models that hear no "
        "order in time",
    )
    chunk: Whole = Field(
        default=0,
        description="frames of a chunk: a model hears chunks, and a clip's logits are the mean over its own; 0 "
        "hears whole clips",
        ge=0,
        le=6000,
    )
    chunk_hop: Whole = Field(
        default=0,
        description="frames from one chunk to the next; 0 is features.chunk: chunks side by side",
        ge=0,
        le=6000,
    )
    normalise: Normalise = Field(
        default="global",
        description="whose mean and deviation scale the features: all training clips' (global), each clip's own "
        "(utterance), all clips' of its speaker (speaker; it must know the test speakers' clips, and is stamped on "
        "the protocol), or nobody's (none; under global an encoder that is tuned hears its samples so too)",
    )
