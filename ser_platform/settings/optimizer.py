"""`optimizer.*`: learning rates, their schedule and weight decay."""

from typing import Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real

Schedule = Literal["one_cycle", "cosine", "warmup_cosine", "constant"]


class OptimizerSettings(Group, frozen=True):
    """The settings `optimizer.*`."""

    lr: Real = Field(default=2e-3, ge=1e-7, le=1.0)
    """peak learning rate of AdamW"""

    weight_decay: Real = Field(default=1e-2, ge=0.0, le=10.0)
    """decoupled weight decay of AdamW"""

    schedule: Schedule = "one_cycle"
    """learning rate over the training; warmup_cosine rises over optimizer.warmup, then falls"""

    warmup: Real = Field(default=0.1, ge=0.0, le=0.9)
    """share of the steps in which warmup_cosine rises"""

    backbone_lr: Real = Field(default=0.02, ge=0.0, le=1.0)
    """learning rate of a pretrained encoder's last layer, as a share of optimizer.lr"""

    layer_decay: Real = Field(default=0.9, ge=0.1, le=1.0)
    """learning rate of an encoder layer, as a share of that of the layer above it"""
