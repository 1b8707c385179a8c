"""Feature sets of published systems, as families of frames; comments name the source, and what it does over time.

Means and windows over time are settings of a view (`features.views`), not part of a family.
"""

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

BASE = (Mfcc(LIBROSA_STFT, 128, 40, "db"), Chroma(LIBROSA_STFT), MelPower(LIBROSA_STFT))


PRESETS: dict[str, Family] = {
    # x4nth055/emotion-recognition-using-speech (there: chroma of the magnitude, tuning estimated from each clip): means
    # of the columns over the clip.
    "vector180": Stack(BASE),
    # Clip vectors of librosa's defaults, as in notebooks on RAVDESS, TESS, SAVEE and CREMA-D: means.
    "vector184": Stack(
        (*BASE, Zcr(LIBROSA_STFT), Centroid(LIBROSA_STFT), Rolloff(LIBROSA_STFT), Bandwidth(LIBROSA_STFT))
    ),
    # As vector180 (tonnetz there of the harmonic part's constant-Q chroma): means.
    "vector193": Stack((*BASE, Contrast(LIBROSA_STFT), Tonnetz(LIBROSA_STFT))),
    # Frame sequences of librosa's defaults for recurrent networks: every frame.
    "frames201": Stack(
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
    # Data-Science-kosta/Speech-Emotion-Classification-with-PyTorch (there: decibels under the 3 s kept): skips 0.5 s,
    # keeps 3 s, in windows of 128 frames every 64.
    "chunks128": DecibelMel(Stft(48_000, 1024, 512, 256, "hamming"), 128, "max"),
    # Models whose input is samples, such as wav2vec 2.0.
    "waveform": Waveform(),
    # Eyben et al. (2016), GeMAPS: one row.
    "egemaps": Functionals("eGeMAPSv02"),
    # Schuller et al. (2016), ComParE: one row.
    "compare": Functionals("ComParE_2016"),
}
