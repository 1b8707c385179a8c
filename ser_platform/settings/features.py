"""`features.*`: which features, and how they are pooled, cut into chunks and scaled."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ser_platform.settings.values import Group, Names, Registered, Whole, Word

FeatureDtype = Literal["float32", "float16"]
Normalise = Literal["global", "utterance", "speaker", "none"]
# The order of the columns of joined sets, whatever the order in which they are named; other sets follow as named. The
# order is part of the digests of stored studies and of the columns of stored models: never change it. New sets need
# not be added.
ORDER = (
    *("log_mel", "mfcc", "zcr", "rms", "mfcc_delta", "f0", "chroma", "centroid", "bandwidth", "rolloff"),
    *("flatness", "contrast", "tonnetz", "vector180", "vector184", "vector193", "frames201", "chunks128"),
    *("egemaps", "compare", "waveform"),
)
ENCODER_FEATURES = r".+\.(statistics|frames)"  # the feature families of an encoder, as `features.families` names them


def _sort_sets(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*(name for name in ORDER if name in names), *(name for name in names if name not in ORDER))


class FeatureSettings(Group, frozen=True):
    """The settings `features.*`."""

    sets: Annotated[Names, AfterValidator(_sort_sets), Registered(ENCODER_FEATURES)] = ("log_mel",)
    """features, joined as columns where they have the same frames: families, or the set of a published system; or the
    outputs of a pretrained encoder, ENCODER.statistics (one row) or ENCODER.frames"""

    n_mfcc: Whole = Field(default=20, ge=1, le=40)
    """how many of the 40 stored MFCC, and of their deltas, are used"""

    dtype: FeatureDtype = "float32"
    """how features are stored; float16 needs half the space and has 3 significant digits"""

    pool: Annotated[Word, Registered()] = "none"
    """statistics over the frames of a clip in place of the frames: one row, for models without an order in time"""

    chunk: Whole = Field(default=0, ge=0, le=6000)
    """frames of a chunk: a model receives chunks, and the logits of a clip are the mean over its chunks; 0 keeps clips
    whole"""

    chunk_hop: Whole = Field(default=0, ge=0, le=6000)
    """frames from the start of one chunk to the start of the next; 0 is features.chunk, without overlap"""

    normalise: Normalise = "global"
    """whose mean and deviation scale the features: all training clips (global), the clip (utterance), all clips of its
    speaker (speaker: it reads the clips of the test speakers, and the protocol records it), or none; the samples that a
    tuned encoder receives are not scaled under global either"""
