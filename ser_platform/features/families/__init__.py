"""Families of frame features. `FAMILIES` names them all, `FEATURE_SETS` those that are stored of every clip."""

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
    """Families by name; those of pretrained encoders are found when asked for, and not listed.

    `NAME@DIGEST.statistics` and `NAME@DIGEST.frames` are of the encoder `NAME`; without a digest, of the one that is
    there now. Asking for one of an encoder that is not there raises a UserError.
    """

    def __missing__(self, name: str) -> Family:
        found = find_encoder_family(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and find_encoder_family(name) is not None)


# Everything that has a name. What is in FEATURE_SETS is stored of every clip, the rest when asked for.
FAMILIES = FamilyRegistry(PRESETS | FEATURE_SETS)
