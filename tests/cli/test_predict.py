"""`ser predict` on a folder: JSON on standard output, progress and notes on standard error."""

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.cli import predict as verb
from tests.inference.test_bundle import made_bundle


@pytest.fixture
def words(tmp_path: Path, tone) -> list[str]:
    """A command that predicts a folder of two clips."""
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "clips" / f"{name}.wav", tone(300.0, 1.0), 16_000)
    made_bundle().write(tmp_path / "model", "# a card")
    return ["predict", str(tmp_path / "clips"), "--model", str(tmp_path / "model"), "--json"]


def test_work_of_more_than_two_seconds_shows_progress_beside_the_json(words: list[str], monkeypatch):
    monkeypatch.setattr(verb, "PROGRESS_AFTER_S", 0.0)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert [Path(each["path"]).name for each in json.loads(done.stdout)] == ["a.wav", "b.wav"]
    assert "predicted 2/2" in done.stderr


def test_short_work_shows_none(words: list[str], monkeypatch):
    monkeypatch.setattr(verb, "PROGRESS_AFTER_S", 60.0)
    done = CliRunner().invoke(app, words)
    assert json.loads(done.stdout) and "predicted" not in done.stderr


def test_a_recording_longer_than_the_models_input_is_predicted_with_a_note_beside_the_answer(tmp_path, tone):
    made_bundle().write(tmp_path / "model", "# a card")
    soundfile.write(tmp_path / "meeting.wav", tone(300.0, 70.0), 16_000)
    words = ["predict", str(tmp_path / "meeting.wav"), "--model", str(tmp_path / "model"), "--json"]
    done = CliRunner().invoke(app, words)
    (answer,) = json.loads(done.stdout)
    assert answer["used_s"] == [34.6, 35.4]  # the input of this model is at most 0.8 s
    assert done.stderr.strip().endswith("meeting.wav is 1:10 long; the prediction is for its middle 0.8 s")
