"""The Optuna storage of a study: a journal file in its folder, or the database that `SER_STUDY_STORAGE` names.

The journal is fast and needs no server. A database allows to follow or keep studies outside the folder in which
`ser tune` runs: `postgresql+psycopg://USER@HOST/DATABASE`, with the password in `~/.pgpass` or `PGPASSWORD`. A study
cannot change its storage.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from ser_platform.errors import UserError, WorkFailed, first_line
from ser_platform.tuning.optuna_compat import is_result_operation

STORAGE_VARIABLE = "SER_STUDY_STORAGE"
EXAMPLE_URL = "postgresql+psycopg://USER@HOST/DATABASE"
CONNECT_TIMEOUT_S = 5
JOURNAL_FILE = "journal.log"


def find_database() -> str | None:
    """Return the URL of the database for new studies, without its password; None for the journal.

    Raises:
        UserError: `SER_STUDY_STORAGE` is no URL of a supported database.
    """
    url = _read_url()
    return None if url is None else _hide_password(url)


def open_storage(folder: Path, database: str | None) -> BaseStorage:
    """Open the storage of a study for writing: the database, else the journal in its folder.

    An incomplete last line of the journal, left by a killed process, is removed first: Optuna could not read the file.

    Raises:
        UserError: `SER_STUDY_STORAGE` is not the database of the study.
        WorkFailed: the database does not answer, or the journal is damaged.
    """
    if database is not None:
        return _open_database(database)
    cut_torn_line(folder / JOURNAL_FILE)
    return _open_journal(folder / JOURNAL_FILE)


@contextlib.contextmanager
def open_storage_to_read(folder: Path, database: str | None) -> Iterator[BaseStorage | None]:
    """Yield the storage of a study for reading, None if there is none yet. A journal is copied, as it may be in use."""
    if database is not None:
        yield _open_database(database)
        return
    journal = folder / JOURNAL_FILE
    if not journal.exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copy(journal, scratch))
        cut_torn_line(copy)
        yield _open_journal(copy)


def cut_torn_line(journal: Path) -> None:
    """Remove an incomplete last line from a journal."""
    if journal.exists():
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


class _NoLock(JournalFileOpenLock):
    """Does not lock: `hold_tuning_lock` locks the study as long as it is written.

    Optuna creates and removes a lock file for each line; a file left by a killed process delays the next for 30 s.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class JournalFile(JournalFileBackend):
    """Optuna's journal with `fsync` only after lines with a training result, not after each of 15 lines a trial.

    Every line is passed to the operating system at once, so that a killed process loses none. A crash of the machine
    can lose the lines since the last result.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _NoLock(str(path)))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            if any(map(is_result_operation, logs)):
                os.fsync(file.fileno())


class _Journal(JournalStorage):
    """Optuna's storage without its search through all trials for an enqueued one at each `Study.ask`."""

    _may_have_waiting = True  # False once no trial is enqueued, until `Study.enqueue_trial` adds one

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._may_have_waiting |= template_trial is not None
        return super().create_new_trial(study_id, template_trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states != (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        waiting = super().get_all_trials(study_id, deepcopy, states) if self._may_have_waiting else []
        self._may_have_waiting = bool(waiting)
        return waiting


def _open_journal(path: Path) -> JournalStorage:
    try:
        return _Journal(JournalFile(path))
    except json.JSONDecodeError as error:
        raise WorkFailed(f"{path} is damaged: a line is not JSON ({error}); restore the file from a copy") from error


def _read_url() -> sqlalchemy.URL | None:
    text = os.environ.get(STORAGE_VARIABLE)
    if not text:
        return None
    try:
        url = sqlalchemy.make_url(text)
    except sqlalchemy.exc.ArgumentError:
        # The message omits the value, which may contain a password.
        raise UserError(f"{STORAGE_VARIABLE} is not the URL of a database; give one like {EXAMPLE_URL}") from None
    if url.get_backend_name() == "sqlite":
        raise UserError(
            f"{STORAGE_VARIABLE}: SQLite locks the whole file at each of a trial's epochs and takes longer than the "
            f"journal; leave it unset for the journal, or give a server like {EXAMPLE_URL}"
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _hide_password(url: sqlalchemy.URL) -> str:
    # Not `set`, which ignores None. The query, which can contain a password too, is left out.
    return sqlalchemy.URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database
    ).render_as_string()


def _open_database(database: str) -> RDBStorage:
    url = _read_url()
    if url is None or _hide_password(url) != database:
        raise UserError(f"the study is in {database}; set {STORAGE_VARIABLE} to it")
    try:
        connecting = {"connect_timeout": CONNECT_TIMEOUT_S} if url.get_backend_name() == "postgresql" else {}
        return RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": connecting, "pool_pre_ping": True},
        )
    except (sqlalchemy.exc.NoSuchModuleError, ImportError):
        raise UserError(
            f"{database}: its driver is not installed; for PostgreSQL: pip install psycopg[binary]"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = first_line(error.__cause__ or error)
        raise WorkFailed(f"{STORAGE_VARIABLE}: {database} cannot be used: {reason}") from None
