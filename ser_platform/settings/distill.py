"""`distill.*`: what a student learns from a teacher beside the labels."""

from typing import Annotated, Literal

from pydantic import Field

from ser_platform.settings.values import Group, Real, Registered, Word

Outputs = Literal["out_of_fold", "in_sample", "ensemble"]
Hint = Literal["off", "cosine", "mse"]


class DistillSettings(Group, frozen=True):
    """The settings `distill.*`."""

    alpha: Real = Field(
        default=0.0,
        description="weight of the teacher term: alpha T^2 KL + (1 - alpha) CE; 0 is plain training",
        ge=0.0,
        le=1.0,
    )
    loss: Annotated[Word, Registered()] = Field(
        default="kl",
        description="the teacher term: kl, of standardised logits, decoupled (dkd), mse of the logits, or its one "
        "answer (hard)",
    )
    temperature: Real = Field(
        default=2.0,
        description="softens both distributions of the teacher term; mse and hard have none",
        ge=0.1,
        le=100.0,
    )
    outputs: Outputs = Field(
        default="out_of_fold",
        description="who labels a training clip: a teacher that has not heard its speaker, the registered teacher "
        "that has (in_sample), or the mean of all fold teachers (ensemble)",
    )
    hint: Hint = Field(
        default="off",
        description="beside the teacher term: how a linear map of the student's embedding is to resemble that of "
        "the teacher's frozen encoder (FitNets)",
    )
    hint_weight: Real = Field(default=1.0, description="weight of the hint beside the other terms", ge=0.0, le=100.0)
    unlabelled: Word = Field(
        default="",
        description="more speech, a corpus or a folder of recordings, that joins with the teacher term alone: "
        "nobody reads its labels. An epoch hears as many of its clips as of the others, or all; '' is none",
    )
    beta: Real = Field(
        default=2.0,
        description="dkd: weight of the classes that are not the true one",
        ge=0.0,
        le=100.0,
    )
