"""`augment.*`: random changes of training clips, in each step or as stored copies."""

from typing import Annotated

from pydantic import Field

from ser_platform.settings.values import Group, Real, Registered, Whole, Word


class AugmentSettings(Group, frozen=True):
    """The settings `augment.*`."""

    masks: Whole = Field(default=0, ge=0, le=8)
    """SpecAugment masks in time, and as many over feature columns"""

    stretch: Real = Field(default=0.0, ge=0.0, le=0.5)
    """random stretch of a spectrum (features.sets log_mel only): of time by up to this share, and of its columns, as
    by another vocal tract, by up to half of it; for instance 0.15; 0 is off"""

    filter: Real = Field(default=0.0, ge=0.0, le=3.0)
    """random smooth equaliser over feature columns, not over samples: by up to this many deviations up or down, for
    instance 0.2; 0 is off"""

    mixup: Real = Field(default=0.0, ge=0.0, le=10.0)
    """alpha of mixup, whose shares are drawn from Beta(alpha, alpha); 0 is off"""

    noise_snr_db: Real = Field(default=0.0, ge=0.0, le=60.0)
    """white noise at this SNR in dB to 15 dB more, for models whose inputs are samples; 0 is off"""

    gain_db: Real = Field(default=0.0, ge=0.0, le=30.0)
    """gain of up to this many dB up or down, for models whose inputs are samples; 0 is off"""

    time_shift_s: Real = Field(default=0.0, ge=0.0, le=10.0)
    """shift by up to this many seconds in either direction, for models whose inputs are samples; 0 is off"""

    crop: Real = Field(default=1.0, ge=0.1, le=1.0)
    """smallest share of a clip that a random crop keeps; 1 is off"""

    copies: Whole = Field(default=0, ge=0, le=32)
    """stored changed copies of each training clip, made by augment.recipe"""

    recipe: Annotated[Word, Registered()] = "fourfold"
    """how copies are made: fourfold is noise, then speed, then pre-emphasis"""
