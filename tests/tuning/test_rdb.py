"""A study in a PostgreSQL database: as in the journal, and nobody is told its password."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ser_platform.errors import UserError, WorkFailed
from ser_platform.tuning.journal import StudyFolder, new_study, unfinished
from ser_platform.tuning.storage import VARIABLE, named_database

PASSWORD = "not-to-be-told"


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL server, which Debian keeps off the path."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *filter(None, [shutil.which("initdb")])]
    return Path(max(found, key=str)).parent if found else None


def unprivileged() -> dict[str, object]:
    """Return how a server is started: it refuses to run as root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database on a server of its own, with a password."""
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    import tempfile

    # Not under pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as found:
        who = unprivileged()
        if who:
            shutil.chown(scratch, who["user"], who["group"])  # type: ignore[arg-type]
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        data, words = Path(scratch) / "data", Path(scratch) / "password"
        words.write_text(PASSWORD)
        words.chmod(0o644)
        quiet = {"check": True, "capture_output": True, "cwd": "/", **who}
        run = lambda *command: subprocess.run([str(each) for each in command], **quiet)  # type: ignore[call-overload]  # noqa: E731
        run(folder / "initdb", "-D", data, "-U", "ser", "-A", "scram-sha-256", "--pwfile", words, "--no-sync")
        options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        # Its log is a file: a pipe would be held open by the server.
        run(folder / "pg_ctl", "-D", data, "-w", "-l", Path(scratch) / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://ser:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def test_a_study_in_a_database_is_read_as_from_the_journal(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for address in ("", server):
        monkeypatch.setenv(VARIABLE, address)
        folder = new_study("mine", role="student")
        study = folder.open(optuna.samplers.RandomSampler(0))
        for number in range(2):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.report(0.25, 1)
            trial.set_constraint("parameters", 3.0)
            trial.set_user_attr("state", "running")
            if number == 0:
                study.tell(trial, state=TrialState.PRUNED)
        again = StudyFolder(folder.path)
        (cut_off,) = unfinished(again.trials())
        assert cut_off.number == 1
        assert len(again.open().trials) == 2, "resumed, not begun anew"
        told.append(
            [(t.number, t.state, t.params, t.intermediate_values, t.user_attrs, t.system_attrs) for t in again.trials()]
        )
        assert (folder.path / "journal.log").exists() == (address == "")
    assert told[0] == told[1]
    assert PASSWORD not in (folder.path / "study.json").read_text()
    assert folder.database is not None and folder.database.startswith("postgresql+psycopg://ser@127.0.0.1")


def test_a_study_stays_in_the_database_in_which_it_was_begun(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, server)
    folder = new_study("stays")
    folder.open()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match=r"the study is in postgresql.*//ser@127.*; set SER_STUDY_STORAGE") as told:
        folder.trials()
    assert PASSWORD not in str(told.value)


def test_a_wrong_password_is_told_in_a_line_without_it(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, server.replace(PASSWORD, "wrong-secret"))
    with pytest.raises(WorkFailed, match="cannot be used: .*password authentication failed") as told:
        new_study("closed").open()
    assert "wrong-secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv(VARIABLE, f"postgresql://ser:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/none")
        with pytest.raises(WorkFailed, match=r"postgresql\+psycopg://ser@127.0.0.1.*cannot be used") as told:
            new_study("away").open()
    assert PASSWORD not in str(told.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("sqlite:////tmp/mine.db", "SQLite locks the whole file"), (f"ser:{PASSWORD}", "is no address of a database")],
)
def test_other_storages_are_refused_with_a_reason(address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(UserError, match=reason) as told:
        named_database()
    assert PASSWORD not in str(told.value)
