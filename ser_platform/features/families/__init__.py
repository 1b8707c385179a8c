"""Families of frame features: `FAMILIES` has all of them by name, `FEATURE_SETS` those of this platform."""

from ser_platform.features.families.encoded import find_encoder_family
from ser_platform.features.families.family import Delta, Family
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.presets import PRESETS
from ser_platform.features.families.spectral import (
    Bandwidth,
    Centroid,
    Chroma,
    Contrast,
    Flatness,
    LogMel,
    Mfcc,
    Rolloff,
    Tonnetz,
)
from ser_platform.features.families.temporal import Rms, Waveform, Zcr

FEATURE_SETS: dict[str, Family] = {
    "log_mel": LogMel(),
    "mfcc": Mfcc(),
    "mfcc_delta": Delta(Mfcc()),
    "zcr": Zcr(),
    "rms": Rms(),
    "f0": F0(),
    "chroma": Chroma(),
    "centroid": Centroid(),
    "bandwidth": Bandwidth(),
    "rolloff": Rolloff(),
    "flatness": Flatness(),
    "contrast": Contrast(),
    "tonnetz": Tonnetz(),
    "waveform": Waveform(),
}


class FamilyRegistry(dict[str, Family]):
    """Families by name. Families of pretrained encoders are found by name and are not listed.

    `NAME@DIGEST.statistics` and `NAME@DIGEST.frames` are families of the encoder `NAME` with weights of this digest;
    without a digest, of the encoder that `NAME` names now. The name of a missing encoder raises a UserError.
    """

    def __missing__(self, name: str) -> Family:
        found = find_encoder_family(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and find_encoder_family(name) is not None)


# The families of FEATURE_SETS, and those of published systems.
FAMILIES = FamilyRegistry(PRESETS | FEATURE_SETS)
