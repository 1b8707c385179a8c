"""Views: the choice of frames and columns; contradictory settings are refused."""

import math
from dataclasses import asdict, fields

import numpy as np
import pytest

from ser_platform.errors import UnknownChoice, UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.views.chunks import Chunks
from ser_platform.features.views.view import CHOICES, FeatureView
from ser_platform.settings import SETTINGS, resolve
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.yaml_file import read_space

N_FRAMES = np.array([140, 80, 300])


def choices_of(setting: str) -> tuple[str, ...]:
    """Return the choices of a setting, or of its registry."""
    return SETTINGS[setting].choices or tuple(REGISTRIES[setting])


def view(*sets: str, **changes: object) -> FeatureView:
    return FeatureView(**{"sets": sets or ("rms",), "n_mfcc": 20, "max_seconds": 1.0, "crop": "centre", **changes})  # type: ignore[arg-type]


def first_frames(chosen: FeatureView, epoch: int | None = None, seed: int = 0) -> list[int]:
    """Return the first kept frame of clips of `N_FRAMES` frames."""
    first, part = chosen.locate_part(N_FRAMES, None)
    room = part - np.minimum(part, chosen.max_frames)
    return (first + chosen.choose_crop_offsets(room, np.arange(3), seed, epoch)).tolist()


def test_a_view_is_as_wide_as_its_sets():
    assert view("log_mel", "mfcc", "zcr", "rms", n_mfcc=13).n_features == 64 + 13 + 1 + 1


def test_fewer_mfcc_are_fewer_deltas_too():
    assert view("mfcc", "mfcc_delta", n_mfcc=13).n_features == 26


@pytest.mark.parametrize(("pool", "rows"), [("mean", 1), ("mean_std", 2), ("mean_std_min_max", 4), ("percentiles", 5)])
def test_a_pooled_view_has_every_column_once_for_each_statistic(pool, rows):
    assert view("mfcc", "zcr", n_mfcc=13, pool=pool).n_features == 14 * rows


@pytest.mark.parametrize(("crop", "first"), [("head", [0, 0, 0]), ("centre", [20, 0, 100]), ("random", [20, 0, 100])])
def test_a_longer_clip_is_cropped_to_one_part(crop, first):
    assert first_frames(view(crop=crop)) == first


def test_a_random_crop_follows_from_seed_epoch_and_clip():
    drawn = view(crop="random")
    assert first_frames(drawn, epoch=3, seed=5) == first_frames(drawn, epoch=3, seed=5)
    assert len({tuple(first_frames(drawn, epoch=epoch, seed=seed)) for epoch in range(10) for seed in range(10)}) > 90
    alone = drawn.choose_crop_offsets(np.array([200]), np.array([2]), seed=5, epoch=3)
    assert first_frames(drawn, epoch=3, seed=5)[2] == alone[0]


def test_random_crops_begin_everywhere_equally_often():
    starts = [view(crop="random").choose_crop_offsets(np.array([9]), np.array([clip]), 0, 1)[0] for clip in range(5000)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 400 and counts.max() < 600


def test_the_start_is_skipped():
    first, part = view(skip_s=0.5).locate_part(N_FRAMES, None)
    assert first.tolist() == [50, 50, 50]
    assert part.tolist() == [90, 30, 250]


def test_a_tenth_of_a_second_is_always_left():
    first, part = view(skip_s=2.0).locate_part(np.array([140, 80, 4]), None)
    assert first.tolist() == [130, 70, 0]
    assert part.tolist() == [10, 10, 4]
    first, part = view(trim_db=30.0).locate_part(np.array([140, 80]), (np.array([139, 70]), np.array([140, 80])))
    assert first.tolist() == [130, 70]
    assert part.tolist() == [10, 10]


def test_the_sounding_part_is_found_in_frames_of_any_length():
    ends = np.array([20]), np.array([90])  # 0.2 to 0.9 s
    assert [end.tolist() for end in view("waveform", trim_db=30.0).locate_part(np.array([16_000]), ends)] == [
        [3200],
        [11_200],
    ]
    first, part = view("frames201", trim_db=30.0).locate_part(np.array([44]), ends)
    assert 0.2 <= first[0] * 512 / 22_050 < 0.2 + 512 / 22_050
    assert 0.9 - 512 / 22_050 <= (first[0] + part[0] - 1) * 512 / 22_050 < 0.9


def test_a_second_is_a_hundred_frames_or_16000_samples():
    assert view(max_seconds=2.5).max_frames == 250
    assert view("waveform", max_seconds=2.5).max_frames == 40_000


def test_features_of_whole_clips_have_one_row_however_long_the_clip():
    chosen = view("egemaps")
    assert math.isinf(chosen.frame_s) and chosen.max_frames == 1 and chosen.min_frames == 0
    assert [end.tolist() for end in chosen.locate_part(np.array([1, 1]), None)] == [[0, 0], [1, 1]]


def test_levels_need_the_root_mean_squares_stored():
    assert view("log_mel").required_families == ("log_mel",)
    assert (
        view("log_mel", trim_db=30.0).required_families
        == view("log_mel", level_dbfs=-20.0).required_families
        == ("log_mel", "rms")
    )
    assert view("log_mel", "rms", trim_db=30.0).required_families == ("log_mel", "rms")


def test_chunks_do_not_overlap_unless_a_hop_is_given():
    assert view("chunks128").chunks is None
    assert view("chunks128", chunk=128).chunks == Chunks(128, 128)
    assert view("chunks128", chunk=128, chunk_hop=64).chunks == Chunks(128, 64)


CONTRADICTIONS = [
    (("log_mel", "waveform"), {}, "differ in frame rate.*choose sets of one rate, or waveform alone"),
    (("log_mel", "egemaps"), {}, "egemaps one row per clip"),
    (("rms",), {"min_seconds": 1.5}, "data.min_seconds 1.5 is more than data.max_seconds 1"),
    (("rms",), {"chunk": 10, "chunk_hop": 20}, "features.chunk_hop 20 is more than features.chunk 10"),
    (("rms",), {"chunk_hop": 20}, "features.chunk_hop 20 is more than features.chunk 0"),
    (("rms",), {"pool": "mean", "crop": "random"}, "features.pool mean.*data.crop random"),
    (("rms",), {"pool": "mean", "min_seconds": 0.5}, "features.pool mean.*data.min_seconds 0.5"),
    (("rms",), {"pool": "mean", "chunk": 10}, "features.pool mean.*features.chunk 10"),
    (("rms",), {"pool": "mean", "normalise": "utterance"}, "features.pool mean.*utterance"),
    (("waveform",), {"pool": "mean"}, "features.pool mean.*samples"),
    (("egemaps",), {"skip_s": 1.0}, "egemaps.*one row.*data.skip_s 1.0"),
    (("egemaps",), {"trim_db": 30.0}, "egemaps.*one row.*data.trim_db 30"),
    (("egemaps",), {"min_seconds": 0.5}, "egemaps.*one row.*data.min_seconds 0.5"),
    (("egemaps",), {"pool": "mean"}, "egemaps.*one row.*features.pool mean"),
    (("egemaps",), {"chunk": 10}, "egemaps.*one row.*features.chunk 10"),
    (("egemaps",), {"normalise": "utterance"}, "egemaps.*one row.*features.normalise utterance"),
    (("waveform",), {"level_dbfs": -20.0}, "data.level_dbfs -20.*waveform.*valid features.sets are.*log_mel"),
    (("frames201",), {"level_dbfs": -20.0}, "data.level_dbfs -20.*frames201"),
]


@pytest.mark.parametrize(("sets", "changes", "words"), CONTRADICTIONS)
def test_a_contradiction_is_refused_with_both_settings(sets, changes, words):
    with pytest.raises(UserError, match=words):
        view(*sets, **changes)


@pytest.mark.parametrize(("setting", "field"), [(setting, field) for setting, (field, _) in CHOICES.items()])
def test_an_invalid_choice_is_refused_with_the_valid_ones(setting, field):
    with pytest.raises(UnknownChoice, match=f"{setting}.*{choices_of(setting)[0]}"):
        view(**{field: "blue"})


def test_an_unknown_set_is_refused_with_the_valid_ones():
    with pytest.raises(UnknownChoice, match="'blue'.*log_mel"):
        view("blue")


def test_every_family_is_a_valid_feature_set():
    assert set(REGISTRIES["features.sets"]) == set(FAMILIES)


def test_the_choices_of_a_view_are_those_of_the_settings():
    assert {setting: choices for setting, (_, choices) in CHOICES.items()} == {
        setting: choices_of(setting) for setting in CHOICES
    }


def test_a_view_follows_from_the_settings():
    given = {
        "data.max_seconds": 1.5,
        "data.crop": "head",
        "data.skip_s": 0.25,
        "data.min_seconds": 1.0,
        "data.pad": "reflect",
        "data.trim_db": 30,
        "data.level_dbfs": -20,
        "features.n_mfcc": 30,
        "features.chunk": 64,
        "features.chunk_hop": 32,
        "features.normalise": "utterance",
    }
    chosen = FeatureView.from_settings(resolve(given), ("mfcc",))
    assert asdict(chosen) == {
        "sets": ("mfcc",),
        "pool": "none",
        **{name.split(".")[1]: value for name, value in given.items()},
    }


def test_default_settings_give_a_view_with_the_default_fields():
    assert FeatureView.from_settings(resolve({}), ("mfcc",)) == FeatureView(("mfcc",), 20, 3.0, "centre")


def test_every_field_has_a_setting():
    named = {name.split(".")[1] for name in SETTINGS if name.startswith(("data.", "features."))}
    assert {field.name for field in fields(FeatureView)} <= named


def test_a_view_reads_back_from_json():
    chosen = view("mfcc", pool="mean_std", skip_s=0.1)
    assert FeatureView.from_json({**asdict(chosen), "sets": list(chosen.sets)}) == chosen


def test_a_view_of_an_older_version_reads_with_the_defaults():
    old = {"sets": ["log_mel"], "n_mfcc": 20, "max_seconds": 1.0, "crop": "centre"}
    assert FeatureView.from_json(old) == view("log_mel")


def test_a_view_of_a_newer_version_is_refused_with_the_unknown_field():
    with pytest.raises(UserError, match="'colour'"):
        FeatureView.from_json({**asdict(view()), "colour": 1})


def test_every_field_of_a_view_can_be_searched(tmp_path):
    space = tmp_path / "views.yaml"
    space.write_text(
        "role: student\nspace:\n"
        "  data.max_seconds: {uniform: [1.0, 5.0], step: 0.5}\n"
        "  data.min_seconds: {uniform: [0.0, 1.0]}\n"
        "  data.skip_s: {uniform: [0.0, 0.5]}\n"
        "  data.trim_db: {choice: [0, 20, 30]}\n"
        "  data.level_dbfs: {choice: [0, -20]}\n"
        "  data.crop: {choice: [head, centre, random]}\n"
        "  data.pad: {choice: [zeros, repeat, reflect]}\n"
        "  features.sets: {subset: [log_mel, mfcc, mfcc_delta, f0, chroma], min: 1}\n"
        "  features.n_mfcc: {int: [13, 40]}\n"
        "  features.pool: {choice: [none, mean_std, percentiles]}\n"
        "  features.chunk: {int: [0, 128]}\n"
        "  features.chunk_hop: {fixed: 0}\n"
        "  features.normalise: {choice: [global, utterance]}\n"
    )
    named = {f"features.{field.name}" for field in fields(FeatureView)} | {
        f"data.{f.name}" for f in fields(FeatureView)
    }
    assert {axis.name for axis in read_space(space).axes} == named & set(SETTINGS)
