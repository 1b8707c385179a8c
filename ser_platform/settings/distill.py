"""`distill.*`: what a student learns from a teacher beside the labels."""

from typing import Annotated, Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real, Registered, Word

Outputs = Literal["out_of_fold", "in_sample", "ensemble"]
Hint = Literal["off", "cosine", "mse"]


class DistillSettings(Group, frozen=True):
    """The settings `distill.*`."""

    alpha: Real = Field(default=0.0, ge=0.0, le=1.0)
    """weight of the teacher term: alpha T^2 KL + (1 - alpha) CE; 0 is plain training"""

    loss: Annotated[Word, Registered()] = "kl"
    """the teacher term: KL divergence (kl), the same of standardised logits (kl_standardised), decoupled (dkd), mean
    squared error of the logits (mse), or cross-entropy with the teacher's most probable class (hard)"""

    temperature: Real = Field(default=2.0, ge=0.1, le=100.0)
    """divides the logits of teacher and student before the softmax of the teacher term; mse and hard ignore it"""

    outputs: Outputs = "out_of_fold"
    """the teacher of a training clip: one that was not trained on its speaker (out_of_fold), the registered teacher,
    which was (in_sample), or the mean of all fold teachers (ensemble)"""

    hint: Hint = "off"
    """another term: the distance between a linear map of the student's embedding and the embedding of the teacher's
    frozen encoder (FitNets); off is none"""

    hint_weight: Real = Field(default=1.0, ge=0.0, le=100.0)
    """weight of the hint beside the other terms"""

    unlabelled: Word = ""
    """more speech, a corpus or a folder of recordings, that is trained on with the teacher term only: its labels are
    not read. An epoch has as many of its clips as labelled ones, or all of them; '' is none"""

    beta: Real = Field(default=2.0, ge=0.0, le=100.0)
    """dkd: weight of the classes other than the true one"""
