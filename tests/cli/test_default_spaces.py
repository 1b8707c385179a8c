"""Without a word on search spaces the teacher is made of a pretrained encoder where one is at hand."""

import shutil

import huggingface_hub.constants
import pytest

from ser_platform.cli.tune import DEFAULT_SPACES, ON_ENCODER, _default_spaces
from ser_platform.encoders import encoder_at_hand, finding, pinned_name
from ser_platform.tuning.extraction import heard_families
from ser_platform.tuning.space_file import read_space


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_teacher_is_made_of_the_whisper_that_is_there(pretrained):
    spaces, fixed = _default_spaces({})
    assert spaces == ON_ENCODER and fixed == {"model.backbone": pinned_name("tiny-whisper")}


def test_a_whisper_of_size_base_goes_before_others(pretrained, tmp_path, monkeypatch):
    for name in ("a-whisper", "whisper-base-encoder", "whisper-tiny"):
        shutil.copytree(pretrained / "tiny-whisper", tmp_path / "several" / name)
    shutil.copytree(pretrained / "tiny-wavlm", tmp_path / "several" / "a-base-wavlm")
    monkeypatch.setenv("SER_PRETRAINED", str(tmp_path / "several"))
    assert encoder_at_hand() == "whisper-base-encoder"


def test_without_an_encoder_the_teacher_is_trained_from_scratch(forget):
    forget()
    assert _default_spaces({}) == (DEFAULT_SPACES, {})


def test_a_whisper_in_the_cache_of_the_hub_is_at_hand(pretrained, forget, tmp_path):
    repository = tmp_path / "hub" / f"models--{finding.OF_HUB.replace('/', '--')}"
    shutil.copytree(pretrained / "tiny-whisper", repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    forget()
    assert encoder_at_hand() == finding.OF_HUB


@pytest.mark.parametrize("setting", ["model.name", "features.sets"])
def test_who_fixes_an_architecture_tunes_that(setting, pretrained):
    assert _default_spaces({setting: "bilstm"}) == (DEFAULT_SPACES, {})


def test_who_names_an_encoder_tunes_on_that(pretrained):
    assert _default_spaces({"model.backbone": "tiny-wavlm"}) == (ON_ENCODER, {})


def test_the_shipped_space_hears_one_family_of_the_encoder_that_is_named(pretrained, request):
    space = read_space(request.config.rootpath / "search_spaces" / "teacher_pretrained.yaml")
    chosen = space.with_overrides({"model.backbone": "tiny-wavlm"})
    assert heard_families([chosen]) == (f"{pinned_name('tiny-wavlm')}.statistics",)
    assert chosen.settings({})["model.backbone"] == pinned_name("tiny-wavlm")
