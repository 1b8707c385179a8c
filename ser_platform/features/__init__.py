"""Frame features: families, the store that computes each once, views over it, and normalisation."""

from ser_platform.features.families import Family, LogMel, Mfcc, Rms, Waveform, Zcr

FEATURE_SETS: dict[str, Family] = {
    "log_mel": LogMel(),
    "mfcc": Mfcc(),
    "zcr": Zcr(),
    "rms": Rms(),
    "waveform": Waveform(),
}
