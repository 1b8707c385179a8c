"""Feature sets of published systems, as families of frames; comments name the source and its use of the frames.

Means and windows over time are settings of a view (`features.views`), not part of a family.
"""

from ser_platform.features.families.analysis import LIBROSA_STFT, Stft
from ser_platform.features.families.clip_functionals import ClipFunctionals
from ser_platform.features.families.family import Family, Stack
from ser_platform.features.families.functionals import Functionals
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.spectral import (
    Bandwidth,
    Centroid,
    Chroma,
    Contrast,
    DecibelMel,
    Flatness,
    LogMel,
    MelPower,
    Mfcc,
    Rolloff,
    Tonnetz,
)
from ser_platform.features.families.temporal import Rms, Waveform, Zcr

BASE = (Mfcc(LIBROSA_STFT, 128, 40, "db"), Chroma(LIBROSA_STFT), MelPower(LIBROSA_STFT))


PRESETS: dict[str, Family] = {
    # x4nth055/emotion-recognition-using-speech: means of the columns over the clip. The original has chroma of the
    # magnitude, with the tuning estimated from each clip.
    "vector180": Stack(BASE),
    # Clip vectors of librosa's defaults, as in notebooks on RAVDESS, TESS, SAVEE and CREMA-D: means.
    "vector184": Stack(
        (*BASE, Zcr(LIBROSA_STFT), Centroid(LIBROSA_STFT), Rolloff(LIBROSA_STFT), Bandwidth(LIBROSA_STFT))
    ),
    # Same source: means. The original has the tonnetz of the harmonic part's constant-Q chroma.
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
    # Data-Science-kosta/Speech-Emotion-Classification-with-PyTorch: 3 s after the first 0.5 s, in windows of 128 frames
    # every 64. The original has decibels relative to the loudest band of these 3 s.
    "chunks128": DecibelMel(Stft(48_000, 1024, 512, 256, "hamming"), 128, "max"),
    # Models whose input is samples, such as wav2vec 2.0.
    "waveform": Waveform(),
    # One row without openSMILE: statistics of mel bands, of MFCC, and of loudness, pitch and the spectrum's shape.
    "mel_functionals": ClipFunctionals((LogMel(n_mels=26),)),
    "mfcc_functionals": ClipFunctionals((Mfcc(n_mfcc=20),)),
    "voice_functionals": ClipFunctionals(
        (Rms(), F0(), Zcr(), Centroid(), Bandwidth(), Rolloff(), Flatness(), Contrast())
    ),
    # Eyben et al. (2016), GeMAPS: one row.
    "egemaps": Functionals("eGeMAPSv02"),
    # Schuller et al. (2016), ComParE: one row.
    "compare": Functionals("ComParE_2016"),
}
