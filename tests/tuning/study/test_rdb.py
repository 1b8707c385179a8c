"""A study in a PostgreSQL database is read like a journal, and no message contains its password."""

import socket
from collections.abc import Iterator

import optuna
import pytest
from optuna.trial import TrialState

from ser_platform.errors import UserError, WorkFailed
from ser_platform.tuning.study.storage import STORAGE_VARIABLE, find_database
from ser_platform.tuning.study.study_folder import StudyFolder, find_unfinished
from tests.postgresql import PASSWORD, database
from tests.tuning.study_folders import create_study_folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with database() as address:
        yield address


def test_a_study_in_a_database_is_read_as_from_the_journal(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = []
    for address in ("", server):
        monkeypatch.setenv(STORAGE_VARIABLE, address)
        folder = create_study_folder("mine", role="student")
        study = folder.open_study(optuna.samplers.RandomSampler(0))
        for number in range(2):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.report(0.25, 1)
            trial.set_constraint("parameters", 3.0)
            trial.set_user_attr("state", "running")
            if number == 0:
                study.tell(trial, state=TrialState.PRUNED)
        again = StudyFolder(folder.path)
        (interrupted,) = find_unfinished(again.read_trials())
        assert interrupted.number == 1
        assert len(again.open_study().trials) == 2, "resumed, not created again"
        stored.append(
            [
                (t.number, t.state, t.params, t.intermediate_values, t.user_attrs, t.system_attrs)
                for t in again.read_trials()
            ]
        )
        assert (folder.path / "journal.log").exists() == (address == "")
    assert stored[0] == stored[1]
    assert PASSWORD not in (folder.path / "study.json").read_text()
    assert folder.database is not None and folder.database.startswith("postgresql+psycopg://ser@127.0.0.1")


def test_a_study_stays_in_its_database(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, server)
    folder = create_study_folder("stays")
    folder.open_study()
    monkeypatch.delenv(STORAGE_VARIABLE)
    with pytest.raises(UserError, match=r"the study is in postgresql.*//ser@127.*; set SER_STUDY_STORAGE") as error:
        folder.read_trials()
    assert PASSWORD not in str(error.value)


def test_a_wrong_password_is_reported_in_one_line_without_it(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, server.replace(PASSWORD, "wrong-secret"))
    with pytest.raises(WorkFailed, match="cannot be used: .*password authentication failed") as error:
        create_study_folder("closed").open_study()
    assert "wrong-secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv(STORAGE_VARIABLE, f"postgresql://ser:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/none")
        with pytest.raises(WorkFailed, match=r"postgresql\+psycopg://ser@127.0.0.1.*cannot be used") as error:
            create_study_folder("away").open_study()
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("sqlite:////tmp/mine.db", "SQLite locks the whole file"), (f"ser:{PASSWORD}", "is not the URL of a database")],
)
def test_other_storages_are_refused_with_a_reason(address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, address)
    with pytest.raises(UserError, match=reason) as error:
        find_database()
    assert PASSWORD not in str(error.value)
