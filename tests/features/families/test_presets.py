"""Presets of published systems: widths, rates and columns; openSMILE where it is installed."""

import builtins
import math

import numpy as np
import pytest

from ser_platform.corpora.audio.reader import Audio
from ser_platform.errors import MissingExtra, UnknownChoice
from ser_platform.features.families import FAMILIES, FEATURE_SETS
from ser_platform.features.families import functionals as opensmile_functionals
from ser_platform.features.families.computation import compute_features, describe_empty_bands, family_cache_key
from ser_platform.features.families.functionals import Functionals
from ser_platform.features.families.presets import PRESETS

OPENSMILE = ["egemaps", "compare"]
COMPUTED_HERE = [name for name in PRESETS if name not in OPENSMILE]


def noise(seconds: float, sample_rate: int = 16_000) -> Audio:
    return Audio(np.random.default_rng(0).normal(0, 0.1, round(seconds * sample_rate)).astype(np.float32), sample_rate)


@pytest.mark.parametrize("name", COMPUTED_HERE)
def test_a_preset_is_as_wide_as_its_columns(name):
    family = PRESETS[name]
    values = compute_features(noise(0.5), [name], FAMILIES)[name]
    assert values.dtype == np.float32 and np.isfinite(values).all()
    assert values.shape[1] == family.n_features == len(family.column_names) == len(set(family.column_names))


def test_every_name_is_of_one_family():
    assert FEATURE_SETS.items() <= FAMILIES.items() and set(FAMILIES) == {*FEATURE_SETS, *PRESETS}
    assert len({family_cache_key("it", family) for family in FAMILIES.values()}) == len(FAMILIES)


@pytest.mark.parametrize(("name", "frame_ms"), [("vector184", 23.22), ("frames201", 23.22), ("chunks128", 5.333)])
def test_presets_have_their_own_frame_rate(name, frame_ms):
    family = PRESETS[name]
    assert 1000 * family.frame_s == pytest.approx(frame_ms, rel=1e-3)
    rows = len(compute_features(noise(1.0), [name], FAMILIES)[name])
    assert rows == 1 + int(family.sample_rate // round(family.frame_s * family.sample_rate))


def test_chunks_are_decibels_under_the_loudest_band_of_a_clip():
    values = compute_features(noise(1.0, 48_000), ["chunks128"], FAMILIES)["chunks128"]
    assert values.max() == 0 and values.min() >= -80


def test_speech_at_16_khz_leaves_bands_of_the_presets_empty():
    warnings = {name: describe_empty_bands(PRESETS[name], 16_000) for name in PRESETS}
    assert {name for name in warnings if warnings[name]} == {
        name for name in COMPUTED_HERE if name != "waveform" and not name.endswith("_functionals")
    }
    assert warnings["chunks128"] == "features up to 24000 Hz of audio at 16000 Hz: the bands above 8000 Hz are empty"


def test_a_missing_opensmile_is_reported_with_its_install_command(monkeypatch):
    import_module = builtins.__import__

    def without_opensmile(name, *rest, **named):
        if name == "opensmile":
            raise ModuleNotFoundError(name)
        return import_module(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_opensmile)
    opensmile_functionals._load_extractor.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install 'ser-platform\[opensmile\]'"):
        compute_features(noise(0.5), ["egemaps"], FAMILIES)


def test_an_unknown_parameter_set_is_refused_with_the_valid_ones():
    with pytest.raises(UnknownChoice, match="eGeMAPSv02, ComParE_2016"):
        Functionals("GeMAPS")


@pytest.mark.parametrize("name", OPENSMILE)
def test_functionals_have_one_row_per_clip(name):
    pytest.importorskip("opensmile", reason="the extra opensmile is not installed")
    family = PRESETS[name]
    for clip in (noise(0.5), noise(1.0), Audio(np.zeros(16_000, np.float32), 16_000)):
        values = compute_features(clip, [name], FAMILIES)[name]
        assert values.shape == (1, family.n_features) == (1, len(family.column_names))
        assert np.isfinite(values).all() and math.isinf(family.frame_s)
