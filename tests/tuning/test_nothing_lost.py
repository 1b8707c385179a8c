"""`kill -9` and Ctrl-C at any moment of `ser tune`: one flag later nothing is missing, and nothing is there twice."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.tuning.kills import TRIALS, Workplace, assert_nothing_is_lost

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")  # features are computed once


@pytest.fixture
def place(tmp_path: Path, tone_corpus: Path, home: Path) -> Workplace:
    return Workplace(tmp_path / "place", tone_corpus, home)


def wait_for(happened: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def trial_workers(of: int) -> list[psutil.Process]:
    """Return the processes that train trials among the descendants of a process."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if "ray::" in (title := " ".join(process.cmdline())) and "train" in title:
                found.append(process)
        except psutil.Error:
            continue  # ended meanwhile
    return found


def test_killed_in_the_journal_and_in_the_registry_and_extended(place: Workplace) -> None:
    assert place.dying("journal", 30, *place.tune) == -signal.SIGKILL
    assert place.dying("registry", 3, "tune", "--resume") == -signal.SIGKILL
    place.resume()
    assert_nothing_is_lost(place)
    (place.folder / "tiny.yaml").write_text("edited meanwhile: it is no matter")
    name = place.study.name
    assert place.dying("mlflow", 6, "studies", "extend", name, "--trials", "2") == -signal.SIGKILL
    place.resume()
    versions = 1 if "stays the candidate" in place.folder.joinpath("killed.txt").read_text() else None
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{place.folder}/mlflow.db").search_model_versions("name = 'ser-teacher'")
    assert len({version.tags["trial"] for version in found}) == len(found), "the same winner is registered once"
    assert_nothing_is_lost(place, TRIALS + 2, versions or len(found))
    ended = place.run("tune", "--resume")
    assert (ended.returncode, "nothing to resume" in ended.stderr) == (2, True)
    unknown = place.run("studies", "extend", "nobody", "--trials", "1")
    assert unknown.returncode == 2
    assert name in unknown.stderr, "the studies that there are"


def test_killed_in_mlflow_and_in_a_file(place: Workplace) -> None:
    assert place.dying("mlflow", 9, *place.tune) == -signal.SIGKILL
    assert place.dying("file", 5, "tune", "--resume") == -signal.SIGKILL
    place.resume()
    assert_nothing_is_lost(place)


def test_a_killed_worker_costs_no_trial_and_ctrl_c_ends_within_seconds(place: Workplace) -> None:
    process = place.begin(*place.tune)
    try:
        wait_for(lambda: process.poll() is not None or trial_workers(process.pid))
        second = place.run(*place.tune)
        assert second.returncode == 2
        assert f"process {process.pid}" in second.stderr
        trial_workers(process.pid)[0].kill()
        wait_for(lambda: process.poll() is not None or list(place.folder.glob("runs/*/stopping.json")))
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(30) == 1
        assert time.monotonic() - began < 15
    finally:
        process.kill()
        process.wait()
    said = (place.folder / "begun.txt").read_text()
    assert "ser tune --resume" in said
    assert "Traceback" not in said
    place.resume()
    assert_nothing_is_lost(place)
