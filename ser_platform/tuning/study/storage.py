"""Where Optuna keeps a study: a journal file in its folder, or the database that `SER_STUDY_STORAGE` names.

The journal is quick and needs no server. A database is for studies that are to be watched, or kept, elsewhere than in
the folder that `ser tune` runs in: `postgresql+psycopg://USER@HOST/DATABASE`, the password in `~/.pgpass` or
`PGPASSWORD`. A study stays where it was begun.
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
CONNECT_TIMEOUT_S = 5  # for a database server to answer
JOURNAL_FILE = "journal.log"


def find_database() -> str | None:
    """Return the database that new studies go to, as it may be shown: without a password. None is the journal.

    Raises:
        UserError: `SER_STUDY_STORAGE` names none that can be used.
    """
    url = _read_url()
    return None if url is None else _hide_password(url)


def open_storage(folder: Path, database: str | None) -> BaseStorage:
    """Open the storage of a study to write to: the database, else the journal in its folder.

    A line of the journal that was torn by a kill is cut first: it would hide all others.

    Raises:
        UserError: `SER_STUDY_STORAGE` does not name the database that the study is in.
        WorkFailed: the database does not answer.
    """
    if database is not None:
        return _open_database(database)
    cut_torn_line(folder / JOURNAL_FILE)
    return _open_journal(folder / JOURNAL_FILE)


@contextlib.contextmanager
def open_storage_to_read(folder: Path, database: str | None) -> Iterator[BaseStorage | None]:
    """Open the storage of a study to read; None before there is one. A journal is copied: another may be writing."""
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
    """Remove an unfinished last line from a journal."""
    if journal.exists():
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


class _NoLock(JournalFileOpenLock):
    """No lock a line: `hold_tuning_lock` holds one for as long as a study is written.

    Optuna's is a file, created and removed for each line; one that a kill leaves behind stops the next for 30 s.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class JournalFile(JournalFileBackend):
    """Optuna's journal, forced to the disk where a line tells what training has given, not at each of 15 a trial.

    Every line is with the system at once, so that a kill loses none; only a machine that goes down can lose those since
    the last result.
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
    """Optuna's storage, which looks through all trials for one that waits before each that is asked for."""

    _may_have_waiting = True  # whether any trial can: they come by `Study.enqueue_trial`, or from the file

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
        raise WorkFailed(f"{path} is damaged: a line in its midst is no JSON ({error}); restore the file") from error


def _read_url() -> sqlalchemy.URL | None:
    text = os.environ.get(STORAGE_VARIABLE)
    if not text:
        return None
    try:
        url = sqlalchemy.make_url(text)
    except sqlalchemy.exc.ArgumentError:
        # Without what was given, which may hold a password.
        raise UserError(f"{STORAGE_VARIABLE} is no address of a database; give one like {EXAMPLE_URL}") from None
    if url.get_backend_name() == "sqlite":
        raise UserError(
            f"{STORAGE_VARIABLE}: SQLite locks the whole file at each of a trial's epochs and takes longer than the "
            f"journal; leave it unset for the journal, or give a server like {EXAMPLE_URL}"
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _hide_password(url: sqlalchemy.URL) -> str:
    # Not `set`, for which None is no change. What stands behind the ? can hold a password too.
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
            f"{database}: no driver for it is installed; for PostgreSQL: pip install psycopg[binary]"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = first_line(error.__cause__ or error)
        raise WorkFailed(f"{STORAGE_VARIABLE}: {database} cannot be used: {reason}") from None
