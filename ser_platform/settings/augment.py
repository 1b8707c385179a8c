"""`augment.*`: random changes of training clips, in each step or as stored copies."""

from typing import Annotated

from pydantic import Field

from ser_platform.settings.values import Group, Real, Registered, Whole, Word


class AugmentSettings(Group, frozen=True):
    """The settings `augment.*`."""

    masks: Whole = Field(
        default=0,
        description="SpecAugment masks in time, and as many over feature columns",
        ge=0,
        le=8,
    )
    stretch: Real = Field(
        default=0.0,
        description="random stretch of a spectrum (features.sets log_mel alone): of time by up to this share, and "
        "of its columns, as by another vocal tract, by up to half of it; for instance 0.15; 0 is off",
        ge=0.0,
        le=0.5,
    )
    filter: Real = Field(
        default=0.0,
        description="random smooth equaliser over feature columns, not over samples: up to so many deviations up "
        "or down, for instance 0.2; 0 is off",
        ge=0.0,
        le=3.0,
    )
    mixup: Real = Field(
        default=0.0,
        description="alpha of mixup, whose shares are drawn from Beta(alpha, alpha); 0 is off",
        ge=0.0,
        le=10.0,
    )
    noise_snr_db: Real = Field(
        default=0.0,
        description="white noise at this SNR in dB to 15 dB more, for models that hear samples; 0 is off",
        ge=0.0,
        le=60.0,
    )
    gain_db: Real = Field(
        default=0.0,
        description="gain of up to so many dB up or down, for models that hear samples; 0 is off",
        ge=0.0,
        le=30.0,
    )
    time_shift_s: Real = Field(
        default=0.0,
        description="shift of up to so many seconds either way, for models that hear samples; 0 is off",
        ge=0.0,
        le=10.0,
    )
    crop: Real = Field(
        default=1.0,
        description="least share of a clip that a random crop keeps; 1 is off",
        ge=0.1,
        le=1.0,
    )
    copies: Whole = Field(
        default=0,
        description="stored changed copies of each training clip, made by augment.recipe",
        ge=0,
        le=32,
    )
    recipe: Annotated[Word, Registered()] = Field(
        default="fourfold",
        description="how copies are made: fourfold is noise, then speed, then pre-emphasis",
    )
