"""Frame features: families, the store that computes each once, views over it, and normalisation."""

from ser_platform.features.family import Delta, Family
from ser_platform.features.pitch import F0
from ser_platform.features.presets import PRESETS
from ser_platform.features.spectral import (
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
from ser_platform.features.temporal import Rms, Waveform, Zcr

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

# Everything that has a name. What is in FEATURE_SETS is stored of every clip, the rest when asked for.
FAMILIES: dict[str, Family] = {name: preset.family for name, preset in PRESETS.items()} | FEATURE_SETS
