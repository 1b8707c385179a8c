"""`ser tracking server`: a real process, and requests over HTTP."""

import base64
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tracking.retrying_client import RetryingClient
from ser_platform.tracking.server import PASSWORD_FILE, SECRET_KEY_FILE, ServerPlan
from tests.postgresql import PASSWORD as DATABASE_PASSWORD
from tests.postgresql import database
from tests.tracking.servers import STARTS_WITHIN, free_port

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@contextmanager
def run_server(folder: Path, *words: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a server as a user does; yield its address and its process."""
    port = free_port()
    ser = str(Path(sys.executable).with_name("ser"))
    command = [ser, "tracking", "server", "--folder", str(folder), "--port", str(port)]
    log = folder.parent / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *words],
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + STARTS_WITHIN
    try:
        while time.monotonic() < ends and process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise AssertionError(log.read_text()[-2000:])
        yield url, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(url: str, password: str | None = None, host: str | None = None) -> int:
    request = urllib.request.Request(url + SEARCH)
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_it_requires_a_password_that_only_its_owner_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask_wtf", reason="the extra `server` is not installed")
    folder = tmp_path / "kept"
    with run_server(folder) as (url, process):
        word = (folder / PASSWORD_FILE).read_text()
        assert [stat.S_IMODE((folder / name).stat().st_mode) for name in (PASSWORD_FILE, SECRET_KEY_FILE)] == [
            0o600,
            0o600,
        ]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (status(url), status(url, "guess"), status(url, word)) == (401, 401, 200)
        assert status(url, word, host="evil.example") == 403
        printed = Path(f"/proc/{process.pid}/cmdline").read_text() + (tmp_path / "server.log").read_text()
        assert word not in printed, "neither the list of processes nor the log contains it"
        assert f"export MLFLOW_TRACKING_PASSWORD=$(cat {folder / PASSWORD_FILE})" in printed

        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", word)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        client = RetryingClient(url)
        run = client.create_run(client.create_experiment("ser-made"), tags={"study": "made"})
        (tmp_path / "note.txt").write_text("a note")
        client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
        (kept,) = (folder / "artefacts").rglob("note.txt")  # the server wrote it
        assert kept.read_text() == "a note"
    with run_server(folder) as (url, _):
        assert status(url, word) == 200, "the password is the same after a restart"
        assert RetryingClient(url).get_run(run.info.run_id).data.tags["study"] == "made"


def test_other_machines_are_not_served_without_a_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--no-auth on 0.0.0.0 would let any machine change all runs"):
        ServerPlan(tmp_path, host="0.0.0.0", auth=False).refuse_open()


STUDY = """
import sys, time
from ser_platform.settings import resolve
from ser_platform.tracking.retrying_client import RetryingClient
from ser_platform.tracking.runs import StudyRuns
from ser_platform.tracking.mlflow_store import find_or_create_experiment
client, name = RetryingClient(sys.argv[1], max_wait_s=0.0), sys.argv[2]  # the first error ends it
settings = resolve({"model.name": "bilstm"})
runs = StudyRuns(client, find_or_create_experiment(client, "ser-made"), name, {"role": "student"})
values = dict.fromkeys(("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar"), 0.5)
for number in range(int(sys.argv[3])):
    runs.start_trial(number, settings)
    runs.log_epoch(number, values | {"epoch": 1})
    runs.end_trial(number, "complete", {"epochs": 1.0}, "")
runs.close()
runs.finish_study({}, {"state": "finished"})
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_studies_of_500_trials_at_once_write_every_run_into_postgresql(tmp_path: Path) -> None:
    with database() as address:
        with run_server(tmp_path / "kept", "--no-auth", MLFLOW_BACKEND_URI=address) as (url, server):
            assert DATABASE_PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
            quiet = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1"}
            both = [
                subprocess.Popen(
                    [sys.executable, "-c", STUDY, url, name, "500"], env=quiet, stderr=subprocess.PIPE, text=True
                )
                for name in ("first", "second")
            ]
            errors = [process.communicate()[1] for process in both]
            assert [process.returncode for process in both] == [0, 0], "\n".join(errors)
            client = RetryingClient(url)
            found = client.search_runs([client.create_experiment("ser-made")], max_results=5000)
            for name in ("first", "second"):
                trials = [run for run in found if run.data.tags["study"] == name and "trial" in run.data.tags]
                assert len(trials) == len({run.data.tags["trial"] for run in trials}) == 500
                assert {(run.info.status, run.data.metrics["dev_uar"]) for run in trials} == {("FINISHED", 0.5)}
            assert not (tmp_path / "kept" / "mlflow.db").exists()
        log = (tmp_path / "server.log").read_text()
        assert "lock" not in log.lower() and DATABASE_PASSWORD not in log
