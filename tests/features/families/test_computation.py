"""Frame features of signals with known properties: tones of known pitch and level."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.fft

from ser_platform.corpora.audio.reader import Audio
from ser_platform.features.families import FEATURE_SETS
from ser_platform.features.families.analysis import LIBROSA_STFT, SPEECH_STFT, Analysis
from ser_platform.features.families.computation import compute_features, describe_empty_bands, family_cache_key
from ser_platform.features.families.family import Delta, Stack
from ser_platform.features.families.spectral import Bandwidth, Centroid, Chroma, Flatness, LogMel, Mfcc
from ser_platform.features.families.temporal import Rms, Waveform, Zcr

FRAME_FAMILIES = [name for name, family in FEATURE_SETS.items() if family.frame_s == SPEECH_STFT.frame_s]


def features(name: str, waveform: np.ndarray) -> np.ndarray:
    return compute_features(Audio(waveform, 16_000), [name], FEATURE_SETS)[name]


def slaney_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear to 1 kHz (15 mel), then 27 steps for a factor of 6.4 (Auditory Toolbox, 1998)."""
    return np.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_peaks_in_the_mel_band_whose_centre_is_nearest(frequency, tone):
    centres = np.linspace(0, slaney_mel(np.array(8000.0)), 64 + 2)[1:-1]
    nearest = np.abs(centres - slaney_mel(np.array(frequency))).argmin()
    peaks = features("log_mel", tone(frequency, 0.5))[5:-5].argmax(axis=1)
    assert np.abs(peaks - nearest).max() <= (0 if frequency == 1000.0 else 1)


def test_ten_times_the_amplitude_has_a_hundred_times_the_energy(tone):
    quiet, loud = (features("log_mel", tone(1000.0, 0.5, level=level))[5:-5].max(axis=1) for level in (0.05, 0.5))
    np.testing.assert_allclose(loud - quiet, np.log(100), atol=1e-3)


def test_the_rms_of_a_full_scale_sine_is_one_over_root_two(tone):
    np.testing.assert_allclose(features("rms", tone(400.0, 0.5, level=1.0))[2:-2], np.log(1 / np.sqrt(2)), atol=1e-3)


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 4000.0])
def test_a_tone_crosses_zero_twice_in_a_period(frequency, tone):
    rate = features("zcr", tone(frequency + 0.5, 0.5))[3:-3].mean()
    assert rate == pytest.approx(2 * frequency / 16_000, rel=0.02)


def test_mfcc_are_the_orthonormal_dct_of_the_log_mel_energies():
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    expected = scipy.fft.dct(features("log_mel", waveform), type=2, norm="ortho", axis=1)[:, :40]
    np.testing.assert_allclose(features("mfcc", waveform), expected, atol=1e-3)


def test_fewer_mfcc_are_the_first_of_more():
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    few = compute_features(Audio(waveform, 16_000), ["mfcc"], {"mfcc": Mfcc(n_mfcc=13)})["mfcc"]
    np.testing.assert_allclose(features("mfcc", waveform)[:, :13], few, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1600, 1601, 1759, 1760, 4000, 7999, 8000, 8001, 16_000, 48_123])
def test_all_frame_families_have_one_frame_more_than_full_hops(n_samples):
    waveform = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    counts = {name: len(features(name, waveform)) for name in FRAME_FAMILIES}
    assert counts == dict.fromkeys(FRAME_FAMILIES, 1 + n_samples // SPEECH_STFT.hop_length)


# A delta reaches four frames before a sound begins; f0 and contrast may be equal for silence and a tone.
LOCAL_FAMILIES = [name for name in FRAME_FAMILIES if name not in ("mfcc_delta", "f0", "contrast")]


@pytest.mark.parametrize("name", LOCAL_FAMILIES)
def test_frames_are_centred_on_their_hop(name, tone):
    silence = np.zeros(8000, np.float32)
    waveform = np.concatenate([silence, tone(1000.0, 0.5)])  # begins at frame 50
    changed = np.abs(features(name, waveform) - features(name, np.zeros(16_000, np.float32))).max(axis=1)
    assert changed[:48].max() == 0 and changed[50:95].min() > 0


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_features_are_finite_floats_of_the_stated_width(name, tone):
    click = np.zeros(1600, np.float32)
    click[800] = 1.0
    for waveform in (tone(440.0, 0.1), np.zeros(1600, np.float32), np.ones(1600, np.float32), click):
        values = features(name, waveform)
        assert values.dtype == np.float32 and np.isfinite(values).all()
        assert values.shape[1] == FEATURE_SETS[name].n_features == len(FEATURE_SETS[name].column_names)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_family_computed_alone_equals_it_computed_with_others(name, tone):
    together = compute_features(Audio(tone(440.0, 0.5), 16_000), FEATURE_SETS, FEATURE_SETS)
    np.testing.assert_array_equal(together[name], features(name, tone(440.0, 0.5)))


def test_the_waveform_family_is_the_samples(tone):
    np.testing.assert_array_equal(features("waveform", tone(440.0, 0.5))[:, 0], tone(440.0, 0.5))


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match=r"mono \(n_samples,\), got shape \(2, 100\)"):
        features("rms", np.zeros((2, 100), np.float32))


def test_settings_are_part_of_equality():
    assert LogMel() == LogMel() and LogMel(n_mels=40) != LogMel()
    assert hash(Rms()) == hash(Rms()) and Zcr().version >= 1


@pytest.mark.parametrize("frequency", [500.0, 2000.0, 6000.0])
def test_the_centroid_of_a_tone_is_its_frequency_and_its_band_is_narrow(frequency, tone):
    analysis = Analysis(Audio(tone(frequency, 0.5, 22_050), 22_050))
    np.testing.assert_allclose(Centroid(LIBROSA_STFT)(analysis)[3:-3], frequency, rtol=0.02)
    assert Bandwidth(LIBROSA_STFT)(analysis)[3:-3].max() < 120


def test_noise_is_flat_and_a_tone_is_not(tone):
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    assert features("flatness", noise)[5:-5].mean() > 0.5 > 1e-3 > features("flatness", tone(1000.0, 0.5))[5:-5].max()


@pytest.mark.parametrize(("frequency", "pitch_class"), [(261.63, "c"), (440.0, "a"), (880.0, "a"), (740.0, "f#")])
def test_a_tone_has_its_energy_in_its_pitch_class(frequency, pitch_class, tone):
    chroma = Chroma(LIBROSA_STFT)
    values = chroma(Analysis(Audio(tone(frequency, 0.5, 22_050), 22_050)))[5:-5]
    assert {chroma.column_names[column] for column in values.argmax(dim=1)} == {f"chroma_{pitch_class}"}


@pytest.mark.parametrize("hertz", [80.0, 123.0, 220.0, 410.0])
def test_f0_of_a_voice_is_its_pitch(hertz, tone):
    voice = sum(tone(n * hertz, 0.5) / n for n in range(1, 6))
    f0, voicing = features("f0", voice.astype(np.float32))[5:-5].T
    assert np.abs(1200 * np.log2(f0 / hertz)).max() < 10 and voicing.min() > 0.85


def test_noise_and_silence_have_no_f0():
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert (features("f0", noise)[:, 0] == 0).mean() > 0.95 and features("f0", noise)[:, 1].mean() < 0.5
    assert not features("f0", np.zeros(8000, np.float32)).any()


def test_a_delta_is_the_slope_of_a_column():
    """RMS in nepers of a sound that doubles every 10 frames rises by ln 2 / 10 a frame."""
    swelling = np.sin(np.arange(16_000) / 2) * 2.0 ** (np.arange(16_000) / 1600 - 10)
    values = Delta(Rms())(Analysis(Audio(swelling.astype(np.float32), 16_000)))
    np.testing.assert_allclose(values[6:-6], np.log(2) / 10, rtol=0.02)


def test_families_with_equal_column_names_cannot_be_stacked():
    with pytest.raises(ValueError, match="distinct column names"):
        Stack((Zcr(), Zcr()))


def test_families_with_different_frames_cannot_be_stacked():
    with pytest.raises(ValueError, match="must have the same frame rate"):
        Stack((Zcr(), Rms(LIBROSA_STFT)))


def test_the_key_of_a_family_changes_with_its_inner_family(monkeypatch):
    keys = {family_cache_key("it", family) for family in (Delta(Mfcc()), Delta(Mfcc(n_mfcc=13)), Delta(LogMel()))}
    assert len(keys) == 3
    monkeypatch.setattr(Mfcc, "version", Mfcc.version + 1)
    assert family_cache_key("it", Delta(Mfcc())) not in keys


def test_families_with_the_same_fields_have_different_keys():
    assert family_cache_key("it", Centroid()) != family_cache_key("it", Flatness())


def test_bands_above_the_audio_give_a_warning():
    assert (
        describe_empty_bands(Centroid(LIBROSA_STFT), 22_050) is None and describe_empty_bands(LogMel(), 48_000) is None
    )
    assert "bands above 8000 Hz are empty" in str(describe_empty_bands(Centroid(LIBROSA_STFT), 16_000))
    assert describe_empty_bands(Waveform(), 8000) is not None


def test_features_need_neither_librosa_nor_torchaudio():
    code = "import sys, ser_platform.features; print(sorted({'librosa', 'torchaudio', 'numba'} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
