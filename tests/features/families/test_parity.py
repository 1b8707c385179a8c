"""Every family agrees with librosa: on tones, noise, silence, clicks, and real speech.

The error may be a thousandth of the value, or of the family's 99th percentile where the value is smaller.
"""

import os
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import Audio, list_audio_files, read_audio
from ser_platform.features.families.analysis import LIBROSA_STFT, SPEECH_STFT, Analysis, Stft
from ser_platform.features.families.computation import compute_features
from ser_platform.features.families.family import Delta, Family
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.presets import PRESETS
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
from ser_platform.features.families.temporal import Rms, Zcr

pytestmark = pytest.mark.filterwarnings("ignore:n_fft=.*too large", "ignore:Empty filters", "ignore:Trying to estimate")

Samples = NDArray[np.float32]
SECOND = np.arange(22_050) / 22_050
NOISE = np.random.default_rng(0).normal(0, 0.1, 22_050)
CLICKS = np.zeros(22_050)
CLICKS[[0, 7000, 15_000, 22_049]] = 1.0, -1.0, 0.5, 1.0
SOUNDS = {
    "a low tone": 0.5 * np.sin(2 * np.pi * 110 * SECOND),
    "a high tone": 0.1 * np.sin(2 * np.pi * 7040.5 * SECOND),
    "harmonics": sum(0.3 / n * np.sin(2 * np.pi * 180 * n * SECOND) for n in range(1, 30)),
    "noise": NOISE,
    "faint noise": 1e-4 * NOISE,
    "noise in silence": np.where((SECOND > 0.3) & (SECOND < 0.6), NOISE, 0.0),
    "silence": np.zeros(22_050),
    "clicks": CLICKS,
    "a constant": np.full(22_050, 0.5),
    "less than a window": NOISE[:1500],
}


def spectrum(y: Samples, stft: Stft, power: int) -> Samples:
    return np.abs(librosa.stft(y, **arguments(stft))) ** power


def arguments(stft: Stft) -> dict[str, object]:
    return {"n_fft": stft.n_fft, "hop_length": stft.hop_length, "win_length": stft.win_length, "window": stft.window}


def mel(y: Samples, stft: Stft, n_mels: int) -> Samples:
    return librosa.feature.melspectrogram(y=y, sr=stft.sample_rate, n_mels=n_mels, **arguments(stft))


def mfcc(y: Samples, family: Mfcc) -> Samples:
    energies = mel(y, family.stft, family.n_mels)
    levels = librosa.power_to_db(energies) if family.scale == "db" else np.log(np.maximum(energies, 1e-10))
    return librosa.feature.mfcc(S=levels, n_mfcc=family.n_mfcc)


def decibel_mel(y: Samples, family: DecibelMel) -> Samples:
    reference = np.max if family.ref == "max" else 1.0
    return librosa.power_to_db(mel(y, family.stft, family.n_mels), ref=reference, top_db=family.top_db)


def chroma(y: Samples, stft: Stft) -> Samples:
    return librosa.feature.chroma_stft(S=spectrum(y, stft, 2), sr=stft.sample_rate, n_fft=stft.n_fft, tuning=0.0)


def delta(y: Samples, family: Delta) -> Samples:
    values = reference(y, family.family)
    is_long = values.shape[1] >= family.width
    return librosa.feature.delta(
        values, width=family.width, order=family.order, mode="interp" if is_long else "nearest"
    )


def frame_arguments(stft: Stft) -> dict[str, int]:
    return {"frame_length": stft.win_length, "hop_length": stft.hop_length}


def rms(y: Samples, family: Rms) -> Samples:
    values = librosa.feature.rms(y=y, **frame_arguments(family.stft))
    return 0.5 * np.log(np.maximum(values**2, 1e-10)) if family.scale == "ln" else values


def of_magnitude(function: Callable[..., Samples]) -> Callable[[Samples, Family], Samples]:
    return lambda y, family: function(S=spectrum(y, family.stft, 1), sr=family.sample_rate)


REFERENCES: dict[type, Callable[..., Samples]] = {
    MelPower: lambda y, family: mel(y, family.stft, family.n_mels),
    LogMel: lambda y, family: np.log(np.maximum(mel(y, family.stft, family.n_mels), 1e-10)),
    DecibelMel: decibel_mel,
    Mfcc: mfcc,
    Delta: delta,
    Chroma: lambda y, family: chroma(y, family.stft),
    Tonnetz: lambda y, family: librosa.feature.tonnetz(chroma=chroma(y, family.stft)),
    Centroid: of_magnitude(librosa.feature.spectral_centroid),
    Bandwidth: of_magnitude(librosa.feature.spectral_bandwidth),
    Rolloff: of_magnitude(librosa.feature.spectral_rolloff),
    Contrast: of_magnitude(librosa.feature.spectral_contrast),
    Flatness: lambda y, family: librosa.feature.spectral_flatness(S=spectrum(y, family.stft, 1)),
    Zcr: lambda y, family: librosa.feature.zero_crossing_rate(y, **frame_arguments(family.stft)),
    Rms: rms,
}


# Tolerated differences of large values: MFCC reach 1000, levels -100 dB.
ROUNDING: dict[type, float] = {Delta: 1e-4, Contrast: 1e-5}


def reference(y: Samples, family: Family) -> Samples:
    """Return librosa's values `(n_features, n_frames)`."""
    return REFERENCES[type(family)](y, family)


CHUNKS = PRESETS["chunks128"]
FAMILIES = [
    *(
        family
        for stft in (SPEECH_STFT, LIBROSA_STFT)
        for family in (
            MelPower(stft),
            MelPower(stft, 64),
            LogMel(stft),
            DecibelMel(stft),
            DecibelMel(stft, 64, "max", None),
            Mfcc(stft),
            Mfcc(stft, 128, 50, "db"),
            Delta(Mfcc(stft, 64, 13)),
            Delta(Mfcc(stft, 64, 13), 2),
            Chroma(stft),
            Tonnetz(stft),
            Centroid(stft),
            Bandwidth(stft),
            Flatness(stft),
            Contrast(stft),
            Zcr(stft),
            Rms(stft),
            Rms(stft, "linear"),
        )
    ),
    CHUNKS,
]


def assert_near(values: Samples, expected: Samples, rounding: float = 0.0) -> None:
    assert values.shape == expected.shape and np.isfinite(values).all()
    allowed = 1e-3 * np.maximum(np.abs(expected), np.percentile(np.abs(expected), 99)) + rounding
    error = np.abs(values - expected)
    assert (error <= allowed).all(), f"largest error {error.max():g} at {np.unravel_index(error.argmax(), error.shape)}"


def check(audio: Audio, family: Family) -> None:
    values = compute_features(audio, ["it"], {"it": family})["it"]
    assert_near(values, reference(audio.resample(family.sample_rate), family).T, ROUNDING.get(type(family), 0.0))


def make_test_id(family: Family) -> str:
    return f"{type(family).__name__} {family.sample_rate} {'-'.join(family.column_names[:1])}"


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("family", FAMILIES, ids=make_test_id)
def test_a_family_agrees_with_librosa(family, sound):
    check(Audio(np.float32(SOUNDS[sound]), family.sample_rate), family)


@pytest.mark.parametrize("name", ["vector180", "vector184", "vector193", "frames201"])
def test_a_preset_is_librosas_features_from_the_waveform_at_its_defaults(name):
    y = np.float32(SOUNDS["harmonics"] + 0.1 * NOISE)
    f, keyed = librosa.feature, {"y": y, "sr": 22_050}
    chromagram = f.chroma_stft(**keyed, tuning=0.0)
    base = [f.mfcc(**keyed, n_mfcc=40), chromagram, f.melspectrogram(**keyed)]
    zcr, centroid = f.zero_crossing_rate(y), f.spectral_centroid(**keyed)
    contrast = f.spectral_contrast(**keyed)
    expected = {
        "vector180": base,
        "vector184": [*base, zcr, centroid, f.spectral_rolloff(**keyed), f.spectral_bandwidth(**keyed)],
        "vector193": [*base, contrast, f.tonnetz(chroma=chromagram)],
        "frames201": [
            *(f.mfcc(**keyed, n_mfcc=50), centroid, f.spectral_flatness(y=y), chromagram),
            *(f.melspectrogram(**keyed), contrast, zcr, f.rms(y=y)),
        ],
    }[name]
    family = PRESETS[name]
    values = compute_features(Audio(y, 22_050), [name], {name: family})[name].T
    assert len(values) == family.n_features == int("".join(filter(str.isdigit, name)))
    parts = np.split(values, np.cumsum([len(part) for part in expected])[:-1])
    for part, truth in zip(parts, expected, strict=True):
        assert_near(part, truth)


def rolloff_bins_apart(y: Samples, stft: Stft) -> NDArray[np.float64]:
    values = compute_features(Audio(y, stft.sample_rate), ["it"], {"it": Rolloff(stft)})["it"][:, 0]
    expected = librosa.feature.spectral_rolloff(S=spectrum(y, stft, 1), sr=stft.sample_rate)[0]
    return np.abs(values - expected) / stft.bin_hz


@pytest.mark.parametrize("stft", [SPEECH_STFT, LIBROSA_STFT], ids=["speech", "librosa"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_rolloff_is_within_a_bin_of_librosas(sound, stft):
    assert rolloff_bins_apart(np.float32(SOUNDS[sound]), stft).max() <= 1.001


def cents_apart(y: Samples, family: F0) -> NDArray[np.float64]:
    """Return how far the voiced frames are from librosa's, in hundredths of a semitone."""
    hertz = compute_features(Audio(y, family.sample_rate), ["f0"], {"f0": family})["f0"][:, 0]
    expected = librosa.yin(
        y,
        fmin=family.lowest_hz,
        fmax=family.highest_hz,
        sr=family.sample_rate,
        frame_length=family.frame_length,
        hop_length=family.stft.hop_length,
        trough_threshold=family.trough,
    )
    assert hertz.shape == expected.shape
    voiced = hertz > 0
    return 1200 * np.abs(np.log2(hertz[voiced] / expected[voiced]))


@pytest.mark.parametrize("sound", ["a low tone", "harmonics"])
def test_f0_is_librosas_yin(sound):
    assert (cents_apart(np.float32(SOUNDS[sound]), F0()) <= 20).mean() >= 0.95


def real_clips() -> list[Audio]:
    """Return ten clips of two corpora, chosen by seed."""
    paths = list_audio_files(Path(os.environ["SER_CORPORA"]))
    return [read_audio(paths[i]) for i in np.random.default_rng(0).choice(len(paths), 10, replace=False)]


@pytest.mark.corpora
@pytest.mark.parametrize("family", FAMILIES, ids=make_test_id)
def test_a_family_agrees_with_librosa_on_real_speech(family):
    for audio in real_clips():
        check(audio, family)


@pytest.mark.corpora
@pytest.mark.parametrize("stft", [SPEECH_STFT, LIBROSA_STFT], ids=["speech", "librosa"])
def test_rolloff_is_within_a_bin_of_librosas_on_real_speech(stft):
    apart = np.concatenate([rolloff_bins_apart(audio.resample(stft.sample_rate), stft) for audio in real_clips()])
    assert (apart <= 1.001).mean() >= 0.999


@pytest.mark.corpora
def test_f0_is_within_20_cents_of_librosas_yin_on_real_speech():
    apart = np.concatenate([cents_apart(audio.waveform, F0()) for audio in real_clips()])
    assert len(apart) > 500 and (apart <= 20).mean() >= 0.95


def test_a_spectrum_is_computed_once_for_all_families_that_name_it(monkeypatch):
    calls = []
    compute_spectrum = Analysis._spectrum
    monkeypatch.setattr(Analysis, "_spectrum", lambda self, stft: calls.append(stft) or compute_spectrum(self, stft))
    names = ["vector184", "frames201"]
    compute_features(Audio(np.float32(NOISE), 22_050), names, {name: PRESETS[name] for name in names})
    assert calls == [LIBROSA_STFT]
