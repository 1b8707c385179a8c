"""Feature sets of published systems, as families whose columns stand side by side and are kept in time.

What a system does with them over time (means, windows) is a view: it is said here, and applied elsewhere.
"""

from dataclasses import dataclass

from ser_platform.features.families.analysis import LIBROSA_STFT, Stft
from ser_platform.features.families.family import Family, Stack
from ser_platform.features.families.functionals import Functionals
from ser_platform.features.families.spectral import (
    Bandwidth,
    Centroid,
    Chroma,
    Contrast,
    DecibelMel,
    Flatness,
    MelPower,
    Mfcc,
    Rolloff,
    Tonnetz,
)
from ser_platform.features.families.temporal import Rms, Waveform, Zcr

CHUNKS_STFT = Stft(48_000, 1024, 512, 256, "hamming")
BASE = (Mfcc(LIBROSA_STFT, 128, 40, "db"), Chroma(LIBROSA_STFT), MelPower(LIBROSA_STFT))


@dataclass(frozen=True)
class Preset:
    """A published system's features: the family, whose they are, and the view of them that its model sees."""

    family: Family
    source: str
    view: str


MEANS = "mean of each column over the clip"
TUTORIAL = "x4nth055/emotion-recognition-using-speech (there: chroma of the magnitude, tuning estimated from each clip)"
PRESETS: dict[str, Preset] = {
    "vector180": Preset(Stack(BASE), TUTORIAL, MEANS),
    "vector184": Preset(
        Stack((*BASE, Zcr(LIBROSA_STFT), Centroid(LIBROSA_STFT), Rolloff(LIBROSA_STFT), Bandwidth(LIBROSA_STFT))),
        "clip vectors of librosa's defaults, as in notebooks on RAVDESS, TESS, SAVEE and CREMA-D",
        MEANS,
    ),
    "vector193": Preset(
        Stack((*BASE, Contrast(LIBROSA_STFT), Tonnetz(LIBROSA_STFT))),
        f"{TUTORIAL}; tonnetz there of the harmonic part's constant-Q chroma",
        MEANS,
    ),
    "frames201": Preset(
        Stack(
            (
                Mfcc(LIBROSA_STFT, 128, 50, "db"),
                Centroid(LIBROSA_STFT),
                Flatness(LIBROSA_STFT),
                Chroma(LIBROSA_STFT),
                MelPower(LIBROSA_STFT),
                Contrast(LIBROSA_STFT),
                Zcr(LIBROSA_STFT),
                Rms(LIBROSA_STFT, "linear"),
            )
        ),
        "frame sequences of librosa's defaults for recurrent networks",
        "every frame",
    ),
    "chunks128": Preset(
        DecibelMel(CHUNKS_STFT, 128, "max"),
        "Data-Science-kosta/Speech-Emotion-Classification-with-PyTorch (there: decibels under the 3 s kept)",
        "skip 0.5 s, keep 3 s, windows of 128 frames every 64",
    ),
    "waveform": Preset(Waveform(), "models that hear samples: wav2vec 2.0 and its kin", "every sample"),
    "egemaps": Preset(Functionals("eGeMAPSv02"), "Eyben et al. (2016), GeMAPS", "the one row"),
    "compare": Preset(Functionals("ComParE_2016"), "Schuller et al. (2016), ComParE", "the one row"),
}
