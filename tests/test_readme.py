"""Every command of the first page runs, in its order, and the page is short.

`make test` runs them with one trial per study; `make bench` runs them as they are written, and on real speech.
"""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_BYTES = 8192
SERVERS = {"make ui": "http://127.0.0.1:5000/", "make serve": "http://127.0.0.1:5001/ping"}
# What makes a study short: these are added to its command.
SHORT_STUDY = "student --trials 1 --confirm 1x1 --no-control --set model.name=ridge --set distill.alpha=0"


def code_blocks(language: str) -> list[str]:
    """Return the fenced blocks of the page in a language; "" are those of the shell, and output."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def commands() -> list[str]:
    """Return the commands of the page in their order, without comments; indented lines are output."""
    lines = (line.split("#")[0].rstrip() for block in code_blocks("") for line in block.splitlines())
    return [line for line in lines if line.startswith(("make ", "ser ", ".venv/bin/ser "))]


def test_the_page_is_read_in_two_minutes() -> None:
    assert len(README.encode()) <= MAX_BYTES


def test_the_page_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tracked files with this environment, a recording, and a folder of own recordings."""
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if not (ROOT / ".venv").is_dir():
        pytest.skip("make setup has not made .venv here")
    (folder / ".venv").mkdir()  # with a stamp of its own: `make setup` must not install this copy
    for part in (ROOT / ".venv").iterdir():
        if part.name.startswith(".installed-"):
            (folder / ".venv" / part.name).touch()
        else:
            (folder / ".venv" / part.name).symlink_to(part)
    rng, rate = np.random.default_rng(0), 16_000
    pitches = {"happy": 600.0, "anger": 1500.0, "sad": 200.0}  # Hz
    for speaker in ("anna", "bela", "cleo", "dora", "emil", "finn"):
        for emotion, pitch in pitches.items():
            for take in range(4):
                seconds = np.arange(rate) / rate
                tone = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.02 * take) * seconds) + rng.normal(0, 0.01, rate)
                path = folder / "recordings" / emotion / f"{speaker}_{take:02}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, tone, rate)
    shutil.copy(folder / "recordings/happy/anna_00.wav", folder / "FILE.wav")
    return folder


def environment(checkout: Path) -> dict[str, str]:
    stamp = next((ROOT / ".venv").glob(".installed-*"))
    return os.environ | {
        "SER_HOME": str(checkout.parent / "home"),
        "EXTRAS": stamp.name.removeprefix(".installed-"),
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "SER_PRETRAINED": "",
        "MAKEFLAGS": "",
    }


def run(command: str, checkout: Path, timeout_s: float = 900) -> str:
    """Run a command in the checkout and return its output."""
    done = subprocess.run(
        command, shell=True, cwd=checkout, env=environment(checkout), capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def serve(command: str, address: str, checkout: Path) -> None:
    """Start a server, wait until it answers, and stop it."""
    server = subprocess.Popen(
        command, shell=True, cwd=checkout, env=environment(checkout), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(240):
            assert server.poll() is None, f"{command} ended with {server.returncode}"
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    assert answer.status == 200
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        raise AssertionError(f"{command}: {address} does not answer")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def shorten(command: str) -> str:
    if command == "make tune":
        return f'make tune ARGS="{SHORT_STUDY}"'
    return command.replace("ser tune", f"ser tune {SHORT_STUDY}")


def run_page(checkout: Path, *, short: bool) -> None:
    for command in commands():
        if command in SERVERS:
            serve(command, SERVERS[command], checkout)
        else:
            run(shorten(command) if short else command, checkout)
    printed = run(f"{ROOT / '.venv/bin/python'} - <<'PYTHON'\n{code_blocks('python')[0]}PYTHON\n", checkout)
    assert "{" in printed


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_every_command_of_the_page_runs_with_one_trial(checkout: Path) -> None:
    assert {"make setup", "make tune", "make promote", *SERVERS} <= set(commands())
    assert sum("recordings" in command for command in commands()) == 2
    run_page(checkout, short=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_command_of_the_page_runs_as_written(checkout: Path) -> None:
    run_page(checkout, short=False)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.timeout(3600)
def test_the_page_s_command_for_real_speech_runs(checkout: Path) -> None:
    assert "`make tune CORPUS=ravdess`" in README
    run(f"{shorten('make tune')} CORPUS=ravdess", checkout)
