"""`ser predict` states the part of a long recording that it used."""

import json

import soundfile
from typer.testing import CliRunner

from ser_platform.cli import app
from tests.inference.test_bundle import made_bundle


def test_a_recording_longer_than_the_models_input_is_predicted_with_a_note_beside_the_answer(tmp_path, tone):
    made_bundle().write(tmp_path / "model", "# a card")
    soundfile.write(tmp_path / "meeting.wav", tone(300.0, 70.0), 16_000)
    words = ["predict", str(tmp_path / "meeting.wav"), "--model", str(tmp_path / "model"), "--json"]
    done = CliRunner().invoke(app, words)
    (answer,) = json.loads(done.stdout)
    assert answer["used_s"] == [34.6, 35.4]  # the input of this model is at most 0.8 s
    assert done.stderr.strip().endswith("meeting.wav is 1:10 long; the prediction is for its middle 0.8 s")
