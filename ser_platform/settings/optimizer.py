"""`optimizer.*`: learning rates, their schedule and weight decay."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real

Schedule = Literal["one_cycle", "cosine", "warmup_cosine", "constant"]


class OptimizerSettings(Group, frozen=True):
    """The settings `optimizer.*`."""

    lr: Real = Field(default=2e-3, description="peak learning rate of AdamW", ge=1e-7, le=1.0)
    weight_decay: Real = Field(default=1e-2, description="decoupled weight decay of AdamW", ge=0.0, le=10.0)
    schedule: Schedule = Field(
        default="one_cycle",
        description="learning rate over the run; warmup_cosine rises over optimizer.warmup, then falls",
    )
    warmup: Real = Field(default=0.1, description="share of the steps in which warmup_cosine rises", ge=0.0, le=0.9)
    backbone_lr: Real = Field(
        default=0.02,
        description="learning rate of a pretrained encoder's last layer, as a share of optimizer.lr",
        ge=0.0,
        le=1.0,
    )
    layer_decay: Real = Field(
        default=0.9,
        description="learning rate of an encoder layer, as a share of that of the layer above it",
        ge=0.1,
        le=1.0,
    )
