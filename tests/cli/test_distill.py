"""`ser distill outputs`: list and remove stored teacher outputs."""

import json
import os
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.distillation.outputs import FOLD, OutputsKey, outputs_folder, write_outputs
from ser_platform.settings import resolve

DAY = 86_400


def key(digest: str) -> OutputsKey:
    return OutputsKey(FOLD, digest, resolve({"model.name": "bilstm"}), ("x",), ("a", "b"), 3, ("anger", "neutral"))


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["distill", "outputs", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def stored() -> OutputsKey:
    """Outputs used now, others used ten days ago, and a damaged file."""
    write_outputs(key("new"), ["a", "b"], np.zeros((2, 2), dtype=np.float32), "ser-teacher/2")
    write_outputs(key("old"), ["a", "b"], np.zeros((2, 2), dtype=np.float32), "ser-teacher/1")
    os.utime(key("old").path, (time.time() - 10 * DAY,) * 2)
    (outputs_folder() / "torn.safetensors").write_bytes(b"no tensors")
    return key("new")


def test_a_list_names_teachers_and_damaged_files(stored):
    output = run("list")
    assert "ser-teacher/2" in output and "ser-teacher/1" in output and "removed by: ser distill outputs gc" in output
    entries = json.loads(run("list", "--json"))
    assert [entry["readable"] for entry in entries].count(False) == 1
    assert entries[-1]["teacher"] == "ser-teacher/1", "the last used first"
    assert next(entry for entry in entries if entry["digest"] == "new")["clips"] == 2


def test_the_list_is_empty_without_stored_outputs():
    assert json.loads(run("list", "--json")) == []
    assert "0.0 MB" in run("gc")


def test_a_dry_run_removes_nothing_and_a_run_removes_damaged_or_old_outputs(stored):
    assert json.loads(run("gc", "--older-than", "5", "--dry-run", "--json"))["files"] == 2
    assert len(list(outputs_folder().iterdir())) == 3
    writing = outputs_folder() / f".{key('other').path.name}.{'0' * 32}.safetensors"
    writing.touch()
    run("gc")
    assert writing.exists(), "a study is writing it"
    writing.unlink()
    assert {path.name for path in outputs_folder().iterdir()} == {key("new").path.name, key("old").path.name}
    run("gc", "--older-than", "5")
    assert [path.name for path in outputs_folder().iterdir()] == [stored.path.name]
