"""The default search spaces: the teacher has a pretrained encoder where one is available."""

import json
import shutil

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.cli.spaces import list_spaces
from ser_platform.cli.tune import (
    DEFAULT_SPACES,
    DEMO_CONFIRM,
    DEMO_SETTINGS,
    DEMO_TRIALS,
    ENCODER_SPACES,
    _choose_spaces,
)
from ser_platform.encoders import encoder_lookup, find_default_encoder, resolve_pinned_name
from ser_platform.tuning.search_space.requirements import list_input_families
from ser_platform.tuning.search_space.yaml_file import read_space


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_default_teacher_has_the_available_whisper_encoder(pretrained):
    spaces, fixed = _choose_spaces({})
    assert spaces == ENCODER_SPACES and fixed == {"model.backbone": resolve_pinned_name("tiny-whisper")}


def test_a_whisper_of_size_base_is_preferred(pretrained, tmp_path, monkeypatch):
    for name in ("a-whisper", "whisper-base-encoder", "whisper-tiny"):
        shutil.copytree(pretrained / "tiny-whisper", tmp_path / "several" / name)
    shutil.copytree(pretrained / "tiny-wavlm", tmp_path / "several" / "a-base-wavlm")
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "several"))
    assert find_default_encoder(pytest.fail) == "whisper-base-encoder"


def test_a_damaged_encoder_is_reported_and_left_out(pretrained, tmp_path, monkeypatch, capsys):
    for name in ("a-broken", "b-whisper"):
        shutil.copytree(pretrained / "tiny-whisper", tmp_path / "several" / name)
    (tmp_path / "several" / "a-broken" / "config.json").write_text("{")
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "several"))
    spaces, fixed = _choose_spaces({})
    assert spaces == ENCODER_SPACES and fixed == {"model.backbone": resolve_pinned_name("b-whisper")}
    printed = capsys.readouterr().err
    assert printed.startswith("left out: ") and "a-broken" in printed and printed.count("\n") == 1


def test_the_limits_of_the_demo_do_not_apply_to_a_space_or_corpus_given_by_the_user(forget, monkeypatch):
    forget()
    plans = []
    monkeypatch.setattr("ser_platform.cli.tune.run_plan", plans.append)
    for words in ([], ["duration"], ["--corpus", "ravdess"]):
        assert CliRunner().invoke(app, ["tune", "--no-control", *words]).exit_code == 0
    limits = [(plan.trials, plan.confirm, plan.overrides) for plan in plans]
    assert limits == [(DEMO_TRIALS, DEMO_CONFIRM, DEMO_SETTINGS), (None, None, {}), (None, None, {})]


def test_the_listing_contains_the_question_of_each_space(capsys):
    list_spaces(as_json=True)
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["duration"]["role"] == "teacher" and listed["duration"]["trials"] == 20
    assert listed["duration"]["question"].startswith("how much of a clip")


def test_an_unreadable_space_is_listed_with_the_reason(tmp_path, monkeypatch, capsys):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text("role: pupil\n")
    monkeypatch.chdir(tmp_path)
    list_spaces(as_json=True)
    mine = next(entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == "mine")
    assert "unknown role 'pupil'" in mine["question"] and mine["trials"] is None


def test_without_an_encoder_the_teacher_is_trained_from_scratch(forget):
    forget()
    assert _choose_spaces({}) == (DEFAULT_SPACES, {})


def test_a_whisper_encoder_in_the_cache_of_the_hub_is_available(pretrained, forget, tmp_path):
    repository = tmp_path / "hub" / f"models--{encoder_lookup.DEFAULT_HUB_ENCODER.replace('/', '--')}"
    shutil.copytree(pretrained / "tiny-whisper", repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    forget()
    assert find_default_encoder(pytest.fail) == encoder_lookup.DEFAULT_HUB_ENCODER


@pytest.mark.parametrize("setting", ["model.name", "features.sets"])
def test_a_fixed_architecture_excludes_the_default_encoder(setting, pretrained):
    assert _choose_spaces({setting: "bilstm"}) == (DEFAULT_SPACES, {})


def test_an_encoder_given_by_the_user_replaces_the_default_encoder(pretrained):
    assert _choose_spaces({"model.backbone": "tiny-wavlm"}) == (ENCODER_SPACES, {})


def test_the_shipped_space_uses_one_feature_family_of_the_given_encoder(pretrained, request):
    space = read_space(request.config.rootpath / "search_spaces" / "teacher_pretrained.yaml")
    chosen = space.with_overrides({"model.backbone": "tiny-wavlm"})
    assert list_input_families([chosen]) == (f"{resolve_pinned_name('tiny-wavlm')}.statistics",)
    assert chosen.resolve_settings({}).model.backbone == resolve_pinned_name("tiny-wavlm")
