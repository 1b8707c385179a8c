"""`train.*`: epochs, batches, class balance, early stopping and number format."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Flag, Group, Real, Whole

Precision = Literal["float32", "bf16", "fp16"]
Sampling = Literal["natural", "balanced", "undersampled"]


class TrainSettings(Group, frozen=True):
    """The settings `train.*`."""

    epochs: Whole = Field(default=20, ge=1, le=10_000)
    """passes over the training clips"""

    batch_size: Whole = Field(default=32, ge=1, le=4096)
    """clips in a batch"""

    label_smoothing: Real = Field(default=0.1, ge=0.0, le=0.9)
    """probability mass moved off the true class"""

    class_weights: Flag = True
    """weigh classes by inverse frequency in training"""

    patience: Whole = Field(default=8, ge=1, le=10_000)
    """epochs without a better dev UAR before training stops"""

    max_norm: Real = Field(default=5.0, ge=1e-3, le=1e6)
    """largest gradient norm"""

    precision: Precision = "float32"
    """number format of the forward pass; bf16 (CUDA, CPU) and fp16 (CUDA) need half the memory; MPS has only float32"""

    accumulate: Whole = Field(default=1, ge=1, le=1024)
    """parts in which a batch is computed: less memory, the same gradient"""

    auto_batch: Flag = False
    """make these parts smaller until a batch fits into memory"""

    checkpoint_every: Whole = Field(default=1, ge=1, le=1000)
    """epochs from one checkpoint of ser train to the next; a killed process loses the epochs since the last"""

    sampling: Sampling = "natural"
    """training clips of an epoch: all (natural), equally many of every class with repeats (balanced), or of every class
    as many as the rarest has (undersampled)"""
