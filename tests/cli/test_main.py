"""`ser` itself: versions, and the environment that it sets."""

import os
import sys
from importlib.metadata import version

import pytest

from ser_platform import __version__, cli


@pytest.fixture
def print_versions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `ser --version`; return what it prints."""

    def run() -> str:
        monkeypatch.setattr(sys, "argv", ["ser", "--version"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run


def test_the_versions_are_those_of_the_platform_of_python_and_of_the_libraries(print_versions) -> None:
    assert dict(line.split() for line in print_versions().splitlines()) == {
        "ser-platform": __version__,
        "python": sys.version.split()[0],
    } | {name: version(name) for name in ("torch", "ray", "optuna", "mlflow", "transformers")}


def test_usage_statistics_are_off_unless_the_user_sets_the_variable(
    print_versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED")
    for name in names:
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    print_versions()
    assert [os.environ[name] for name in names] == ["true", "true", "1"]
