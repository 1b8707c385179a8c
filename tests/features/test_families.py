"""Frame features state physics: tones of known pitch and level."""

import numpy as np
import pytest
import scipy.fft

from ser_platform.corpora.audio import Audio
from ser_platform.features import FEATURE_SETS
from ser_platform.features.families import SPEECH, LogMel, Mfcc, Rms, Zcr, compute

FRAME_FAMILIES = [name for name, family in FEATURE_SETS.items() if family.frame_s == SPEECH.frame_s]


def features(name: str, waveform: np.ndarray) -> np.ndarray:
    return compute(Audio(waveform, 16_000), [name], FEATURE_SETS)[name]


def slaney_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear to 1 kHz (15 mel), then 27 steps for a factor of 6.4 (Auditory Toolbox, 1998)."""
    return np.where(hertz < 1000, 3 * hertz / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))


@pytest.mark.parametrize("frequency", [250.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_peaks_in_the_mel_band_whose_centre_is_nearest(frequency, tone):
    centres = np.linspace(0, slaney_mel(np.array(8000.0)), 64 + 2)[1:-1]
    nearest = np.abs(centres - slaney_mel(np.array(frequency))).argmin()
    peaks = features("log_mel", tone(frequency, 0.5))[5:-5].argmax(axis=1)
    assert np.abs(peaks - nearest).max() <= (0 if frequency == 1000.0 else 1)


def test_ten_times_the_amplitude_is_a_hundred_times_the_energy(tone):
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
    few = compute(Audio(waveform, 16_000), ["mfcc"], {"mfcc": Mfcc(n_mfcc=13)})["mfcc"]
    np.testing.assert_allclose(features("mfcc", waveform)[:, :13], few, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1600, 1601, 1759, 1760, 4000, 7999, 8000, 8001, 16_000, 48_123])
def test_all_frame_families_have_a_frame_for_every_hop_begun(n_samples):
    waveform = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    counts = {name: len(features(name, waveform)) for name in FRAME_FAMILIES}
    assert counts == dict.fromkeys(FRAME_FAMILIES, 1 + n_samples // SPEECH.hop_length)


@pytest.mark.parametrize("name", FRAME_FAMILIES)
def test_frames_are_centred_on_their_hop(name, tone):
    silence = np.zeros(8000, np.float32)
    waveform = np.concatenate([silence, tone(1000.0, 0.5)])  # begins at frame 50
    changed = np.abs(features(name, waveform) - features(name, np.zeros(16_000, np.float32))).max(axis=1)
    assert changed[:48].max() == 0 and changed[50:95].min() > 0


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_features_are_finite_floats_of_the_stated_width(name, tone):
    for waveform in (tone(440.0, 0.1), np.zeros(1600, np.float32), np.ones(1600, np.float32)):
        values = features(name, waveform)
        assert values.dtype == np.float32 and np.isfinite(values).all()
        assert values.shape[1] == FEATURE_SETS[name].n_features


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_family_alone_gives_what_it_gives_beside_the_others(name, tone):
    together = compute(Audio(tone(440.0, 0.5), 16_000), FEATURE_SETS, FEATURE_SETS)
    np.testing.assert_array_equal(together[name], features(name, tone(440.0, 0.5)))


def test_the_waveform_is_itself(tone):
    np.testing.assert_array_equal(features("waveform", tone(440.0, 0.5))[:, 0], tone(440.0, 0.5))


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match=r"mono \(n_samples,\), got shape \(2, 100\)"):
        features("rms", np.zeros((2, 100), np.float32))


def test_settings_are_part_of_equality():
    assert LogMel() == LogMel() and LogMel(n_mels=40) != LogMel()
    assert hash(Rms()) == hash(Rms()) and Zcr().version >= 1
