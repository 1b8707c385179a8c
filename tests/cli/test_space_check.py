"""`ser tune SPACE --check` prints what a space searches or every mistake in its file, and starts nothing."""

import json
import sys
from pathlib import Path

import pytest

from ser_platform import cli
from ser_platform.workflows.run_lock import hold_tuning_lock

TEXT = """\
role: student
base: {train.epochs: 12}
space:
  model.name: {choice: [gru, lite_cnn]}
  model.layers: {int: [1, 3], when: {model.name: gru}}
constraints: [{metric: parameters, at_most: 5000}]
budget: {trials: 9, minutes: 7}
"""


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `ser` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["ser", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a search-space file in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(TEXT)
    return "mine.yaml"


def test_a_valid_space_is_printed_with_its_axes_and_budget(space: str, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "tune", space, "--check", "--trials", "5") == 0
    printed = capsys.readouterr().out
    assert "model.layers: int [1, 3], only where model.name is gru" in printed
    assert "fixed: train.epochs 12" in printed
    assert "budget: 5 trials, 7 minutes" in printed
    assert "parameters <= 5000" in printed


def test_the_same_is_printed_as_json_without_what_the_user_fixes(space: str, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "tune", space, "--check", "--json", "--set", "model.name=gru") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [axis["name"] for axis in found["axes"]] == ["model.layers"]
    assert found["base"] == {"train.epochs": 12, "model.name": "gru"}
    assert found["budget"] == {"trials": 9, "minutes": 7, "epochs": None}


def test_each_mistake_of_each_file_is_a_line(space: str, monkeypatch, capsys) -> None:
    Path(space).write_text(TEXT.replace("gru, ", "GRU, ").replace("trials: 9", "trials: 0"))
    Path("other.yaml").write_text("role: pupil\n")
    assert run(monkeypatch, "tune", space, "other.yaml", "--check") == 2
    printed = capsys.readouterr()
    here = Path.cwd()
    starts = [f"ser: {here}/mine.yaml:4: ", f"ser: {here}/mine.yaml:7: ", f"ser: {here}/other.yaml:1: "]
    lines = printed.err.splitlines()
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 3
    assert printed.out == ""


def test_a_space_is_checked_while_a_tuning_runs_and_nothing_is_written(space: str, monkeypatch) -> None:
    with hold_tuning_lock():
        before = sorted(Path().rglob("*"))
        assert run(monkeypatch, "tune", space, "--check") == 0
        assert sorted(Path().rglob("*")) == before


def test_a_check_does_not_resume(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "tune", "--resume", "--check") == 2
    assert "leave the other options out" in capsys.readouterr().err


def test_a_check_without_a_space_is_refused(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "tune", "--check") == 2
    assert "--check needs a SPACE" in capsys.readouterr().err
