"""`ser models export`, and the commands that accept a folder instead of a registered model."""

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.inference.bundle import read_bundle
from tests.inference.test_bundle import made_bundle


def ser(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output if done.exception is None else f"{done.output}{done.exception}"


@pytest.fixture
def clip(tmp_path: Path, tone) -> Path:
    soundfile.write(tmp_path / "clip.wav", tone(300.0, 0.5), 16_000)  # the model uses at most 0.8 s
    return tmp_path / "clip.wav"


def test_an_export_in_8_bits_is_small_and_predicts_the_same(tmp_path, clip):
    made_bundle().write(tmp_path / "model", "# a card")
    code, output = ser("models", "export", tmp_path / "model", tmp_path / "small", "--int8")
    assert code == 0, output
    assert "KB  model.safetensors" in output
    assert read_bundle(tmp_path / "small").card == "# a card"
    answers = [json.loads(ser("predict", clip, "--model", tmp_path / name, "--json")[1]) for name in ("model", "small")]
    (whole,), (small,) = answers
    assert (whole["model"], whole["version"]) == ("model", None)
    assert small["emotion"] == whole["emotion"]
    assert small["probabilities"] == pytest.approx(whole["probabilities"], abs=0.02)


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    made_bundle().write(tmp_path / "model", "card")
    code, output = ser("models", "export", tmp_path / "model", tmp_path / "model")
    assert code != 0
    assert "exists already; give a new folder" in output


def test_a_folder_without_a_model_is_refused_by_name(tmp_path, clip):
    (tmp_path / "nothing").mkdir()
    code, output = ser("predict", clip, "--model", tmp_path / "nothing")
    assert code != 0
    assert "nothing/MANIFEST.sha256 cannot be read" in output
