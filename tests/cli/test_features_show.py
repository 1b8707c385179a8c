"""`ser features show` draws a recording and prints its measures."""

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


def test_it_prints_the_measures_and_the_path_of_the_figure(clip, tmp_path):
    result = CliRunner().invoke(app, [str(clip)])
    assert result.exit_code == 0, result.output
    assert "1.00 s" in result.output and "44100 Hz" in result.output and "-9.0 dBFS" in result.output
    assert "220 Hz" in result.output
    assert (tmp_path / "runs" / "features-tone.png").read_bytes().startswith(b"\x89PNG")


def test_json_contains_the_measures_unrounded(clip, tmp_path):
    result = CliRunner().invoke(app, [str(clip), "--json", "--out", str(tmp_path / "mine.png")])
    report = json.loads(result.output)
    assert report.keys() == {
        "path", "seconds", "sample_rate", "level_dbfs", "silence", "voiced", "mean_f0_hz", "figure",
    }  # fmt: skip
    assert report["seconds"] == 1.0 and report["mean_f0_hz"] == pytest.approx(220, abs=1)
    assert report["figure"] == str(tmp_path / "mine.png") and (tmp_path / "mine.png").exists()


def test_a_file_that_is_not_audio_is_refused(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    result = CliRunner().invoke(app, [str(tmp_path / "bad.wav")])
    assert isinstance(result.exception, BadAudio)
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_is_not_a_png_is_refused(clip):
    result = CliRunner().invoke(app, [str(clip), "--out", "figure.pdf"])
    assert isinstance(result.exception, UserError)
    assert "ends in .png" in str(result.exception)
