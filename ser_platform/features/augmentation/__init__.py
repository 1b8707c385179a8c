"""Changes to training clips: transforms of samples, recipes that draw them, and which copies a training set gets."""

from ser_platform.features.augmentation.channels import BandLimit, Codec, MuLaw
from ser_platform.features.augmentation.level import Gain, PreEmphasis
from ser_platform.features.augmentation.noise import Noise, RecordedNoise
from ser_platform.features.augmentation.rooms import MeasuredRoom, Reverb
from ser_platform.features.augmentation.stretching import Pitch, Speed, Tempo
from ser_platform.features.augmentation.time_shift import RandomCrop, TimeShift
from ser_platform.features.augmentation.transform import Transform

# Those that need nothing but a clip, with their defaults; RecordedNoise and MeasuredRoom take a folder of sounds.
TRANSFORMS: dict[str, Transform] = {
    "noise": Noise(),
    "pink_noise": Noise(colour="pink"),
    "speed": Speed(),
    "tempo": Tempo(),
    "pitch": Pitch(),
    "gain": Gain(),
    "pre_emphasis": PreEmphasis(),
    "reverb": Reverb(),
    "band_limit": BandLimit(),
    "mu_law": MuLaw(),
    "mp3": Codec("mp3"),
    "ogg": Codec("ogg"),
    "time_shift": TimeShift(),
    "random_crop": RandomCrop(),
}

__all__ = ["TRANSFORMS", "MeasuredRoom", "RecordedNoise", "Transform"]
