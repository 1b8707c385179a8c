"""Feature sets of published systems, as families whose columns stand side by side and are kept in time.

What a system does with them over time (means, windows) is a view: it is said here, and applied elsewhere.
"""

from dataclasses import dataclass

from ser_platform.features.families.analysis import LIBROSA, Stft
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

CHUNKS = Stft(48_000, 1024, 512, 256, "hamming")
BASE = (Mfcc(LIBROSA, 128, 40, "db"), Chroma(LIBROSA), MelPower(LIBROSA))


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
        Stack((*BASE, Zcr(LIBROSA), Centroid(LIBROSA), Rolloff(LIBROSA), Bandwidth(LIBROSA))),
        "clip vectors of librosa's defaults, as in notebooks on RAVDESS, TESS, SAVEE and CREMA-D",
        MEANS,
    ),
    "vector193": Preset(
        Stack((*BASE, Contrast(LIBROSA), Tonnetz(LIBROSA))),
        f"{TUTORIAL}; tonnetz there of the harmonic part's constant-Q chroma",
        MEANS,
    ),
    "frames201": Preset(
        Stack(
            (
                Mfcc(LIBROSA, 128, 50, "db"),
                Centroid(LIBROSA),
                Flatness(LIBROSA),
                Chroma(LIBROSA),
                MelPower(LIBROSA),
                Contrast(LIBROSA),
                Zcr(LIBROSA),
                Rms(LIBROSA, "linear"),
            )
        ),
        "frame sequences of librosa's defaults for recurrent networks",
        "every frame",
    ),
    "chunks128": Preset(
        DecibelMel(CHUNKS, 128, "max"),
        "Data-Science-kosta/Speech-Emotion-Classification-with-PyTorch (there: decibels under the 3 s kept)",
        "skip 0.5 s, keep 3 s, windows of 128 frames every 64",
    ),
    "waveform": Preset(Waveform(), "models that hear samples: wav2vec 2.0 and its kin", "every sample"),
    "egemaps": Preset(Functionals("eGeMAPSv02"), "Eyben et al. (2016), GeMAPS", "the one row"),
    "compare": Preset(Functionals("ComParE_2016"), "Schuller et al. (2016), ComParE", "the one row"),
}
