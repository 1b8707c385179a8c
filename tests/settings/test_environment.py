"""Folders are read from the environment at each call, without importing pydantic."""

import subprocess
import sys
from pathlib import Path

import pytest

from ser_platform import settings


def test_folders_are_read_from_the_environment_at_each_call(monkeypatch, tmp_path):
    monkeypatch.setenv("SER_HOME", str(tmp_path / "here"))
    assert settings.home() == tmp_path / "here"
    monkeypatch.delenv("SER_CORPORA", raising=False)
    assert settings.corpora_folder() is None
    monkeypatch.setenv("SER_CORPORA", "~/speech")
    assert settings.corpora_folder() == Path("~/speech").expanduser()
    assert settings.runs_folder() == tmp_path / "runs"
    assert settings.slots() >= 1


def test_the_environment_is_read_without_pydantic():
    code = (
        "import sys, ser_platform.settings as s; s.home(); assert 'pydantic' not in sys.modules; "
        "s.Settings; assert 'pydantic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_exists():
    for name in settings.__all__:
        assert getattr(settings, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Group'"):
        _ = settings.Group
