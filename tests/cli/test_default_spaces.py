"""Without a word on search spaces the teacher is made of a pretrained encoder where one is at hand."""

import json
import shutil

import huggingface_hub.constants
import pytest

from ser_platform.cli.spaces import list_spaces
from ser_platform.cli.tune import (
    DEFAULT_SPACES,
    DEMO_CONFIRM,
    DEMO_SETTINGS,
    DEMO_TRIALS,
    ENCODER_SPACES,
    _default_spaces,
    _limit_demo,
)
from ser_platform.encoders import encoder_lookup, find_default_encoder, resolve_pinned_name
from ser_platform.tuning.search_space.requirements import list_input_families
from ser_platform.tuning.search_space.yaml_file import read_space


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_teacher_is_made_of_the_whisper_that_is_there(pretrained):
    spaces, fixed = _default_spaces({})
    assert spaces == ENCODER_SPACES and fixed == {"model.backbone": resolve_pinned_name("tiny-whisper")}


def test_a_whisper_of_size_base_goes_before_others(pretrained, tmp_path, monkeypatch):
    for name in ("a-whisper", "whisper-base-encoder", "whisper-tiny"):
        shutil.copytree(pretrained / "tiny-whisper", tmp_path / "several" / name)
    shutil.copytree(pretrained / "tiny-wavlm", tmp_path / "several" / "a-base-wavlm")
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "several"))
    assert find_default_encoder(pytest.fail) == "whisper-base-encoder"


def test_an_encoder_that_is_broken_is_told_of_and_left_out(pretrained, tmp_path, monkeypatch, capsys):
    for name in ("a-broken", "b-whisper"):
        shutil.copytree(pretrained / "tiny-whisper", tmp_path / "several" / name)
    (tmp_path / "several" / "a-broken" / "config.json").write_text("{")
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "several"))
    spaces, fixed = _default_spaces({})
    assert spaces == ENCODER_SPACES and fixed == {"model.backbone": resolve_pinned_name("b-whisper")}
    said = capsys.readouterr().err
    assert said.startswith("left out: ") and "a-broken" in said and said.count("\n") == 1


def test_what_shows_the_way_in_five_minutes_changes_no_space_that_is_named():
    assert _limit_demo([], "demo") == (DEMO_TRIALS, DEMO_CONFIRM, DEMO_SETTINGS)
    assert _limit_demo(["duration"], "demo") == _limit_demo([], "ravdess") == (None, None, {})


def test_the_listing_says_what_each_space_answers(capsys):
    list_spaces(as_json=True)
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["duration"]["role"] == "teacher" and listed["duration"]["trials"] == 20
    assert listed["duration"]["question"].startswith("how much of a clip")


def test_a_space_that_cannot_be_read_is_listed_with_why(tmp_path, monkeypatch, capsys):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text("role: pupil\n")
    monkeypatch.chdir(tmp_path)
    list_spaces(as_json=True)
    mine = next(entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == "mine")
    assert "unknown role 'pupil'" in mine["question"] and mine["trials"] is None


def test_without_an_encoder_the_teacher_is_trained_from_scratch(forget):
    forget()
    assert _default_spaces({}) == (DEFAULT_SPACES, {})


def test_a_whisper_in_the_cache_of_the_hub_is_at_hand(pretrained, forget, tmp_path):
    repository = tmp_path / "hub" / f"models--{encoder_lookup.DEFAULT_HUB_ENCODER.replace('/', '--')}"
    shutil.copytree(pretrained / "tiny-whisper", repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    forget()
    assert find_default_encoder(pytest.fail) == encoder_lookup.DEFAULT_HUB_ENCODER


@pytest.mark.parametrize("setting", ["model.name", "features.sets"])
def test_who_fixes_an_architecture_tunes_that(setting, pretrained):
    assert _default_spaces({setting: "bilstm"}) == (DEFAULT_SPACES, {})


def test_who_names_an_encoder_tunes_on_that(pretrained):
    assert _default_spaces({"model.backbone": "tiny-wavlm"}) == (ENCODER_SPACES, {})


def test_the_shipped_space_hears_one_family_of_the_encoder_that_is_named(pretrained, request):
    space = read_space(request.config.rootpath / "search_spaces" / "teacher_pretrained.yaml")
    chosen = space.with_overrides({"model.backbone": "tiny-wavlm"})
    assert list_input_families([chosen]) == (f"{resolve_pinned_name('tiny-wavlm')}.statistics",)
    assert chosen.resolve_settings({}).model.backbone == resolve_pinned_name("tiny-wavlm")
