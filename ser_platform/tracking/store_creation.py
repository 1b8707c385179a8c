"""Creation of an MLflow store in SQLite; a kill at any moment leaves a complete store or none.

MLflow creates its tables and migrates them in place, one statement after another. A process that is killed meanwhile
leaves a file that MLflow can neither use nor repair. So a store is created under another name, then renamed.
"""

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock

from ser_platform.errors import UserError

SQLITE_SCHEME = "sqlite:///"
UNFINISHED_SUFFIX = ".unfinished"  # of a store that is being created; only the process with the lock writes it
LOCK_SUFFIX = ".lock"
# The data of a user, as tables and conditions. A new store has the experiment `Default` only.
CONTENT = {"runs": "", "registered_models": "", "experiments": " where name != 'Default'"}


def find_sqlite_file(uri: str) -> Path | None:
    """Return the file of a store in SQLite; None for any other store."""
    path = unquote(uri.removeprefix(SQLITE_SCHEME).partition("?")[0])
    return Path(path) if uri.startswith(SQLITE_SCHEME) and path and path != ":memory:" else None


def ensure_store(database: Path) -> None:
    """Create an MLflow store at `database` unless a complete one exists; replace an incomplete one without data.

    Where two processes call this at the same time, the second waits for the first and uses its store. Raises UserError
    where the file is not an SQLite database.
    """
    if _has_content(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}{LOCK_SUFFIX}"):
        if _has_content(database) or _is_complete(database):
            return
        unfinished = database.with_name(database.name + UNFINISHED_SUFFIX)
        for left in database.parent.glob(f"{unfinished.name}*"):  # of a killed process, with its journals
            left.unlink()
        _create_store(unfinished)
        for journal in database.parent.glob(f"{database.name}-*"):  # would be replayed into the new file
            journal.unlink()
        unfinished.replace(database)


def _create_store(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # The artefact root is for the experiment `Default`, which the platform does not use.
    store = SqlAlchemyStore(f"{SQLITE_SCHEME}{path}", (path.parent / "mlruns").as_uri())
    store.engine.dispose()  # close connections before the file is renamed


def _has_content(database: Path) -> bool:
    """Return whether a file contains runs, models or experiments; False where there is no file."""
    if _is_empty(database):
        return False
    with closing(_open_read_only(database)) as connection:
        tables = _list_tables(connection, database)
        queries = [f"select 1 from {table}{where} limit 1" for table, where in CONTENT.items() if table in tables]
        return any(connection.execute(query).fetchone() for query in queries)


def _is_complete(database: Path) -> bool:
    """Return whether a file has the schema of the installed MLflow."""
    if _is_empty(database):
        return False
    from alembic.script import ScriptDirectory

    with closing(_open_read_only(database)) as connection:
        if "alembic_version" not in _list_tables(connection, database):
            return False
        versions = [version for (version,) in connection.execute("select version_num from alembic_version")]
    return versions == ScriptDirectory(str(files("mlflow.store") / "db_migrations")).get_heads()


def _is_empty(database: Path) -> bool:
    return not database.exists() or not database.stat().st_size


def _open_read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)


def _list_tables(connection: sqlite3.Connection, database: Path) -> set[str]:
    try:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise UserError(f"{database} cannot be read as an MLflow store ({error}); move it away") from error
