"""`train.*`: epochs, batches, class balance, early stopping and number format."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Flag, Group, Real, Whole

Precision = Literal["float32", "bf16", "fp16"]
Sampling = Literal["natural", "balanced", "undersampled"]


class TrainSettings(Group, frozen=True):
    """The settings `train.*`."""

    epochs: Whole = Field(default=20, description="passes over the training clips", ge=1, le=10_000)
    batch_size: Whole = Field(default=32, description="clips in a batch", ge=1, le=4096)
    label_smoothing: Real = Field(
        default=0.1,
        description="probability mass moved off the true class",
        ge=0.0,
        le=0.9,
    )
    class_weights: Flag = Field(default=True, description="weigh classes by inverse frequency in training")
    patience: Whole = Field(default=8, description="epochs without a better dev UAR before stopping", ge=1, le=10_000)
    max_norm: Real = Field(default=5.0, description="largest gradient norm", ge=1e-3, le=1e6)
    precision: Precision = Field(
        default="float32",
        description="numbers of the forward pass; bf16 (CUDA, CPU) and fp16 (CUDA) are half the memory; MPS has "
        "only float32",
    )
    accumulate: Whole = Field(
        default=1,
        description="parts a batch is computed in: less memory, the same gradient",
        ge=1,
        le=1024,
    )
    auto_batch: Flag = Field(
        default=False,
        description="lower the size of these parts until a batch fits into memory",
    )
    checkpoint_every: Whole = Field(
        default=1,
        description="epochs from one checkpoint of ser train to the next; a kill loses the epochs since the last",
        ge=1,
        le=1000,
    )
    sampling: Sampling = Field(
        default="natural",
        description="training clips of an epoch: all (natural), as many of every class with repeats (balanced), or "
        "as many of every class as the rarest has (undersampled)",
    )
