"""`ser features show` draws a recording and tells it in numbers."""

import json
from pathlib import Path

import pytest
import soundfile
import typer
from typer.testing import CliRunner

from ser_platform.cli.features_show import show
from ser_platform.errors import BadAudio, UserError

app = typer.Typer()
app.command()(show)


@pytest.fixture
def clip(tmp_path: Path, tone) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(220.0, 1.0, sample_rate=44_100), 44_100)
    return path


def test_it_prints_the_numbers_and_where_the_figure_is(clip, tmp_path):
    answer = CliRunner().invoke(app, [str(clip)])
    assert answer.exit_code == 0, answer.output
    assert "1.00 s" in answer.output and "44100 Hz" in answer.output and "-9.0 dBFS" in answer.output
    assert "220 Hz" in answer.output
    assert (tmp_path / "runs" / "features-tone.png").read_bytes().startswith(b"\x89PNG")


def test_json_has_the_numbers_unrounded(clip, tmp_path):
    answer = CliRunner().invoke(app, [str(clip), "--json", "--out", str(tmp_path / "mine.png")])
    told = json.loads(answer.output)
    assert told.keys() == {
        "path", "seconds", "sample_rate", "level_dbfs", "silence", "voiced", "mean_f0_hz", "figure",
    }  # fmt: skip
    assert told["seconds"] == 1.0 and told["mean_f0_hz"] == pytest.approx(220, abs=1)
    assert told["figure"] == str(tmp_path / "mine.png") and (tmp_path / "mine.png").exists()


def test_a_file_that_is_no_speech_is_refused(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    answer = CliRunner().invoke(app, [str(tmp_path / "bad.wav")])
    assert isinstance(answer.exception, BadAudio)
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_is_no_png_is_refused(clip):
    answer = CliRunner().invoke(app, [str(clip), "--out", "figure.pdf"])
    assert isinstance(answer.exception, UserError)
    assert "ends in .png" in str(answer.exception)
