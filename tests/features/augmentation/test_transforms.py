"""Transforms of samples: they have the expected acoustic effect, and their keys are stable."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.channels import BandLimit, Codec, MuLaw
from ser_platform.features.augmentation.level import Gain, PreEmphasis
from ser_platform.features.augmentation.noise import Noise
from ser_platform.features.augmentation.recipes import RECIPES, Recipe, compute_copy_digest
from ser_platform.features.augmentation.rooms import Reverb, make_room_response
from ser_platform.features.augmentation.stretching import Pitch, Speed, Tempo
from ser_platform.features.augmentation.transform import Transform
from tests.features.augmentation.signals import DIGEST, RATE, cents, db, energy, hanning, peak_hz, rng, speechlike

CHANGES_LENGTH = {"speed", "tempo"}
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
}


# Every transform


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 24_414, 48_000])
def test_a_transform_returns_finite_samples_of_the_same_type(name, sample_rate):
    before = speechlike(0.7, sample_rate)
    for seed in range(3):
        after = TRANSFORMS[name](before, sample_rate, rng(seed))
        assert after.dtype == np.float32 and after.ndim == 1 and after.flags.c_contiguous
        assert np.isfinite(after).all() and np.abs(after).max() > 1e-3


@pytest.mark.parametrize("name", sorted(TRANSFORMS.keys() - CHANGES_LENGTH))
def test_most_transforms_keep_the_length(name):
    for n_samples in (1_601, 24_000):
        before = speechlike(n_samples / RATE)
        assert len(TRANSFORMS[name](before, RATE, rng())) == n_samples


@pytest.mark.parametrize("name", TRANSFORMS)
def test_equal_generators_give_equal_samples_and_the_clip_is_unchanged(name):
    before = speechlike()
    kept = before.copy()
    before.flags.writeable = False
    first, second = (TRANSFORMS[name](before, RATE, rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_shortest_clip_can_be_changed(name):
    assert len(TRANSFORMS[name](speechlike(0.3)[:1_600], RATE, rng())) > 0


@pytest.mark.parametrize("name", sorted(TRANSFORMS.keys() - {"gain"}))
def test_a_peak_beyond_full_scale_is_not_clipped(name):
    loud = speechlike() * 20
    quiet = loud / 40
    np.testing.assert_allclose(
        energy(TRANSFORMS[name](loud, RATE, rng(1))) / energy(TRANSFORMS[name](quiet, RATE, rng(1))), 40**2, rtol=0.2
    )


@pytest.mark.parametrize("name", TRANSFORMS)
def test_silence_and_nan_are_refused(name):
    with pytest.raises(BadAudio, match="silent before"):
        TRANSFORMS[name](np.zeros(RATE, np.float32), RATE, rng())
    with pytest.raises(BadAudio, match="empty"):
        TRANSFORMS[name](np.zeros(0, np.float32), RATE, rng())
    broken = speechlike()
    broken[7] = np.nan
    with pytest.raises(BadAudio, match="not finite before"):
        TRANSFORMS[name](broken, RATE, rng())


def test_a_silent_result_is_refused(tone):
    with pytest.raises(BadAudio, match="silent after BandLimit"):
        BandLimit(4_000, 0)(tone(7_000, 1.0) * hanning(1.0), RATE, rng())


@pytest.mark.parametrize("samples", [np.ones((2, 100), np.float32), np.ones(100)])
def test_other_samples_than_mono_float32_are_refused(samples):
    with pytest.raises(ValueError, match=r"mono \(n_samples,\) float32"):
        Gain()(samples, RATE, rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise((30, 15)), "snr_db must be"),
        (lambda: Noise((float("nan"), 15)), "snr_db must be"),
        (lambda: Noise(colour="blue"), "white, pink; got 'blue'"),
        (lambda: Speed(()), "at least one"),
        (lambda: Speed((9.0,)), "factors must be"),
        (lambda: Tempo((0.0, 1.0)), "rate must be"),
        (lambda: Pitch((-24, 0)), "semitones must be"),
        (lambda: Gain((-6, 99)), "db must be"),
        (lambda: PreEmphasis(1.5), "coefficient must be"),
        (lambda: Reverb((0, 1)), "rt60_s must be"),
        (lambda: Reverb(direct_db=(3, 2)), "direct_db must be"),
        (lambda: BandLimit(100), "rate_hz must be"),
        (lambda: BandLimit(8_000, 4_000), "low_hz must be"),
        (lambda: Codec("aac"), "mp3, ogg; got 'aac'"),
        (lambda: Codec(compression=(0, 2)), "compression must be"),
    ],
)
def test_invalid_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Keys


def test_all_transforms_and_recipes_have_different_keys():
    assert len({transform.key for transform in TRANSFORMS.values()}) == len(TRANSFORMS)
    assert len({recipe.key for recipe in RECIPES.values()}) == len(RECIPES)


def test_a_key_depends_on_fields_class_and_version(monkeypatch):
    key = Noise().key
    assert len({key, Noise((15, 31)).key, Noise(colour="pink").key, Gain((15, 30)).key}) == 4
    assert Noise((15, 30)).key == key, "whole numbers are the same range"
    monkeypatch.setattr(Noise, "version", 2)
    assert Noise().key != key


def test_the_key_of_a_recipe_depends_on_transforms_order_rate_and_version_not_on_its_name(monkeypatch):
    recipe = RECIPES["broad"]
    others = [
        replace(recipe, variants=recipe.variants[:-1]),
        replace(recipe, variants=recipe.variants[::-1]),
        replace(recipe, variants=(tuple(t for variant in recipe.variants for t in variant),)),
        replace(recipe, sample_rate=8_000),
    ]
    assert len({recipe.key, *(other.key for other in others)}) == 5
    assert replace(recipe, name="other").key == recipe.key
    key = recipe.key
    monkeypatch.setattr(Recipe, "version", 2)
    assert replace(recipe).key != key


def test_keys_are_those_of_earlier_versions():
    # With another key every stored copy is made again: change these only with a `version`.
    assert Noise().key == "28e94c2b0d5dc1a5869fc2b93029c6b9"
    assert RECIPES["fourfold"].key == "9aac74ad74abb9a653e70e091fd94bb8"
    assert compute_copy_digest(DIGEST, "recipe", 1)[:16] == "d2c4ada8659f3e31"


# Acoustic effect


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [0, 15, 30])
def test_noise_has_the_given_ratio(colour, snr_db):
    before = speechlike()
    after = Noise((snr_db, snr_db), colour)(before, RATE, rng())
    assert db(energy(before) / energy(after - before)) == pytest.approx(snr_db, abs=0.01)


def test_white_noise_is_flat_and_pink_noise_falls_by_three_db_an_octave(tone):
    silence_like = tone(10, 60.0, level=1e-3)
    for colour, slope in (("white", 0), ("pink", -3.01)):
        noise = Noise((-20, -20), colour)(silence_like, RATE, rng()) - silence_like
        power = np.abs(np.fft.rfft(noise)) ** 2
        hz = np.fft.rfftfreq(len(noise), 1 / RATE)
        octaves = [db(power[(hz >= low) & (hz < high)].mean()) for low, high in pairwise([250, 500, 1000, 2000, 4000])]
        np.testing.assert_allclose(np.diff(octaves), slope, atol=0.3)


def test_the_ratio_is_drawn_from_its_range():
    before = speechlike()
    ratios = [db(energy(before) / energy(Noise((15, 30))(before, RATE, rng(seed)) - before)) for seed in range(50)]
    assert 15 <= min(ratios) < 18 and 27 < max(ratios) <= 30.01


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.15])
def test_speed_changes_pitch_and_length_together(factor, tone):
    after = Speed((factor,))(tone(440, 1.0), RATE, rng())
    assert len(after) == pytest.approx(RATE / factor, abs=1)
    assert cents(peak_hz(after) / (440 * factor)) == pytest.approx(0, abs=2)


def test_speed_draws_one_of_its_factors(tone):
    lengths = {len(Speed((0.9, 1.1))(tone(440, 0.5), RATE, rng(seed))) for seed in range(20)}
    assert lengths == {-(-8_000 * 10 // 9), -(-8_000 * 10 // 11)}


@pytest.mark.parametrize("rate", [0.8, 0.9, 1.0, 1.25])
def test_tempo_changes_the_length_and_keeps_the_pitch(rate, tone):
    after = Tempo((rate, rate))(tone(440, 2.0), RATE, rng())
    assert len(after) == round(2 * RATE / rate)
    assert cents(peak_hz(after) / 440) == pytest.approx(0, abs=2)
    assert db(energy(after) * rate / energy(tone(440, 2.0))) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("seconds", [30, 120])
def test_tempo_keeps_the_pitch_of_a_long_clip(seconds, tone):
    end = Tempo((1.1, 1.1))(tone(440, seconds), RATE, rng())[-2 * RATE : -RATE // 2]
    assert cents(peak_hz(end) / 440) == pytest.approx(0, abs=2)


@pytest.mark.parametrize("semitones", [-4, -1, 0.5, 3])
def test_pitch_changes_the_pitch_and_keeps_the_length(semitones, tone):
    after = Pitch((semitones, semitones))(tone(440, 1.0), RATE, rng())
    assert len(after) == RATE
    assert cents(peak_hz(after[1000:-1000]) / 440) == pytest.approx(100 * semitones, abs=4)


def test_gain_is_in_decibels():
    before = speechlike()
    np.testing.assert_allclose(Gain((20, 20))(before, RATE, rng()), before * 10, rtol=1e-6)
    assert db(energy(Gain((-6, -6))(before, RATE, rng())) / energy(before)) == pytest.approx(-6, abs=1e-3)


def test_pre_emphasis_is_a_weighted_difference():
    after = PreEmphasis(0.5)(np.array([1, 2, -1, 0], np.float32), RATE, rng())
    np.testing.assert_allclose(after, [1, 1.5, -2, 0.5])


def test_a_synthetic_room_decays_by_sixty_decibels_in_its_reverberation_time():
    for rt60_s in (0.3, 0.8):
        response = make_room_response(rt60_s, 6.0, RATE, rng())
        assert len(response) == round(rt60_s * RATE)
        assert db(1 / energy(response[1:])) == pytest.approx(6, abs=1e-3)
        tenth = len(response) // 10
        fall = db(energy(response[1:tenth]) / energy(response[-tenth:]))
        assert fall == pytest.approx(60 * 0.9, abs=2)


@pytest.mark.parametrize("transform", [Reverb(), Reverb((2.0, 2.0), (-10, -10))])
def test_a_room_keeps_the_level_and_adds_reverberation(transform, tone):
    before = np.concatenate([tone(500, 0.3), np.zeros(RATE // 2, np.float32)])
    after = transform(before, RATE, rng())
    assert energy(after) == pytest.approx(energy(before), rel=1e-3)
    assert np.abs(after[RATE // 3 : RATE // 2]).max() > 1e-4


def test_a_band_limit_keeps_the_band_and_removes_the_rest(tone):
    for hz, kept in ((60, False), (1_000, True), (3_000, True), (4_500, False), (7_000, False)):
        before = tone(hz, 1.0) + tone(1_000, 1.0, level=1e-2)
        after = BandLimit()(before, RATE, rng())
        change = db(energy(after) / energy(before))
        assert change > -0.5 if kept else change < -20


def test_a_rate_below_the_band_keeps_its_upper_edge(tone):
    before = tone(3_900, 1.0, 8_000)
    assert energy(BandLimit(16_000, 0)(before, 8_000, rng())) == pytest.approx(energy(before), rel=1e-3)


def test_the_error_of_mu_law_is_proportional_to_the_sample():
    before = speechlike()
    after = MuLaw()(before, RATE, rng())
    assert 30 < db(energy(before) / energy(after - before)) < 45
    assert len(np.unique(after)) <= 256


@pytest.mark.parametrize("format_", ["mp3", "ogg"])
def test_a_codec_changes_little_and_adds_no_delay(format_):
    before = speechlike()
    after = Codec(format_, (0.5, 0.5))(before, RATE, rng())
    assert 10 < db(energy(before) / energy(after - before)) < 60


def test_a_long_clip_can_be_coded_as_ogg():
    assert len(Codec("ogg")(speechlike(90), RATE, rng())) == 90 * RATE
