"""Functionals: statistics of made frames that can be checked by hand, and rows of made clips."""

import numpy as np
import pytest

from ser_platform.corpora.audio.reader import Audio
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.clip_functionals import NAMES, compute_statistics, find_sounding_part
from ser_platform.features.families.computation import compute_features

OWN = ("mel_functionals", "mfcc_functionals", "voice_functionals")


def describe(values: list[float], voiced: list[bool]) -> dict[str, float]:
    found = compute_statistics(np.array(values)[:, None], np.array(voiced))
    return {name: float(column[0]) for name, column in zip(NAMES, found, strict=True)}


def test_the_statistics_are_those_computed_by_hand():
    found = describe([0.0, 1.0, 2.0, 3.0, 4.0, 9.0], [False, True, True, True, True, True])
    assert found["mean"] == pytest.approx(19 / 6) and found["p50"] == pytest.approx(2.5)
    assert found["voiced_mean"] == pytest.approx(3.8) and found["voiced_p50"] == pytest.approx(3.0)
    line = describe([1.0, 3.0, 5.0, 7.0, 9.0], [True] * 5)
    assert line["slope"] == pytest.approx(line["std"]) and line["residual"] == pytest.approx(0.0, abs=1e-6)
    assert line["skewness"] == pytest.approx(0.0)


def test_few_voiced_frames_or_a_single_frame_give_finite_statistics():
    assert describe([1.0, 2.0, 6.0], [False, False, True])["voiced_mean"] == pytest.approx(3.0)
    single = describe([2.0], [False])
    assert single["mean"] == single["p99"] == 2.0 and single["std"] == single["slope"] == 0.0


def test_the_sounding_part_is_within_30_db_of_the_loudest_frame():
    levels = np.log(10 ** (np.array([-60.0, -29.0, -70.0, 0.0, -31.0]) / 20))
    assert find_sounding_part(levels) == (1, 4)


@pytest.mark.parametrize("seconds", [0.005, 0.3, 2.0])
def test_every_clip_is_one_finite_row_with_a_name_for_each_column(seconds):
    time = np.arange(round(seconds * 16_000)) / 16_000
    clips = [np.sin(2 * np.pi * 200 * time), np.zeros_like(time), np.random.default_rng(0).standard_normal(len(time))]
    for clip in clips:
        for name, row in compute_features(Audio(clip.astype(np.float32), 16_000), OWN, FAMILIES).items():
            assert row.shape == (1, FAMILIES[name].n_features) and np.isfinite(row).all()
            assert len(set(FAMILIES[name].column_names)) == FAMILIES[name].n_features


def test_silence_around_a_clip_changes_little_and_a_higher_voice_has_a_higher_pitch():
    time = np.arange(16_000) / 16_000
    low, high = (np.sign(np.sin(2 * np.pi * hz * time)).astype(np.float32) / 4 for hz in (120.0, 240.0))
    silence = np.zeros(8_000, dtype=np.float32)
    name = "voice_functionals"
    place = FAMILIES[name].column_names.index("f0_hz_voiced_p50")
    rows = [
        compute_features(Audio(clip, 16_000), [name], FAMILIES)[name][0]
        for clip in (low, np.concatenate([silence, low, silence]), high)
    ]
    assert rows[0][place] == pytest.approx(np.log(121), abs=0.02)
    assert rows[1][place] == pytest.approx(rows[0][place], abs=0.02)
    assert rows[2][place] == pytest.approx(np.log(241), abs=0.02)


def test_a_student_on_all_functionals_has_at_most_50_000_parameters():
    assert 8 * (sum(FAMILIES[name].n_features for name in OWN) + 1) <= 50_000
