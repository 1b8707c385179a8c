"""`kill -9` and Ctrl-C at any moment of `ser tune`: after `--resume` nothing is missing or duplicated."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.tuning.kills import TRIALS, Forge, Workplace, assert_nothing_is_lost, assert_runs_are_closed

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("ray")]


def wait_for(happened: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "timed out"
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


def test_a_tuning_killed_repeatedly_ends_like_an_uninterrupted_one_and_can_be_extended(
    tmp_path: Path, tone_corpus: Path, forge: Forge, empty_store: Path
) -> None:
    place = Workplace(tmp_path / "place", tone_corpus, forge, alone=True)
    shutil.copy(empty_store, place.folder)
    assert place.run_until_killed("journal", 30, *place.tune), place.output
    for moment, number in (("file", 5), ("journal", 20), ("mlflow", 4), ("registry", 3)):
        assert place.run_until_killed(moment, number, "tune", "--resume"), f"no {moment} {number}: {place.output}"
    place.resume()
    assert_nothing_is_lost(place)
    (place.folder / "tiny.yaml").write_text("an edit after the start has no effect")
    name = place.study_folder.name
    assert place.run_until_killed("mlflow", 6, "studies", "extend", name, "--trials", "2"), place.output
    is_same = "the winner is the same trial as before" in place.resume()
    assert_nothing_is_lost(place, TRIALS + 2, versions=1 if is_same else 2)
    ended = place.run("tune", "--resume")
    assert (ended.code, "nothing to resume" in ended.output) == (2, True)
    unknown = place.run("studies", "extend", "nowhere", "--trials", "1")
    assert (unknown.code, name in unknown.output) == (2, True), "the message lists the studies"


@pytest.mark.ray
def test_a_killed_worker_costs_no_trial_and_ctrl_c_ends_within_seconds(
    tmp_path: Path, tone_corpus: Path, forge: Forge, empty_store: Path
) -> None:
    place = Workplace(tmp_path / "place", tone_corpus, forge)
    shutil.copy(empty_store, place.folder)
    process = place.begin(*place.tune)
    try:
        wait_for(lambda: process.poll() is not None or trial_workers(process.pid))
        trial_workers(process.pid)[0].kill()
        second = place.run(*place.tune)
        assert (second.code, f"process {process.pid}" in second.output) == (2, True)
        wait_for(lambda: process.poll() is not None or any(place.study_folder.glob("stopping.json")))
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(30) == 1
        assert time.monotonic() - began < 15
    finally:
        process.kill()
        process.wait()
    output = (place.folder / "begun.txt").read_text()
    assert "ser tune --resume" in output
    assert "Traceback" not in output
    assert "(raylet)" not in output, "Ray's report of the killed process"
    assert_runs_are_closed(place)
    place.resume()
    assert_nothing_is_lost(place)
