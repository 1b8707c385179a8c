"""An MLflow store is complete or absent, whenever its creation is interrupted."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tracking import store_creation
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.store_creation import ensure_store
from tests.conftest import CREATE_STORE

SIGNALS = [signal.SIGKILL, signal.SIGHUP, *[signal.SIGKILL] * 8]  # one per moment
# Forks of one process that has imported MLflow: the first is killed while it creates the store, the second is the
# next command. Prints the state of the folder after the kill and the exit code of the second, for each moment.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from ser_platform.tracking.mlflow_store import open_client

def fork(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child

def enter(folder):
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    return open_client().search_experiments()

root, signals = Path(sys.argv[1]), json.loads(sys.argv[2])
began = time.monotonic()
os.waitpid(fork(lambda: enter(root / "whole")), 0)
seconds = time.monotonic() - began
found = []
for moment, number in enumerate(signals):
    folder = root / str(moment)
    child = fork(lambda: enter(folder))
    deadline = time.monotonic() + 60
    while not (folder.exists() and any("db" in name for name in os.listdir(folder))) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds * moment / len(signals))
    os.kill(child, number)
    os.waitpid(child, 0)
    left = sorted(os.listdir(folder))
    found.append({"left": left, "code": os.waitstatus_to_exitcode(os.waitpid(fork(lambda: enter(folder)), 0)[1])})
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(store_creation, "_create_store", CREATE_STORE)  # stores are created here, not copied


@pytest.fixture
def make_incomplete(tmp_path: Path, empty_store: Path) -> Callable[[str], Path]:
    """A function that makes an incomplete store, as a kill of version 0.1 did, and then runs SQL on it."""

    def make(sql: str) -> Path:
        database = tmp_path / "mlflow.db"
        shutil.copy(empty_store, database)
        with sqlite3.connect(database) as connection:
            connection.executescript("drop table mcp_servers; delete from alembic_version;" + sql)
        return database

    return make


def test_after_a_kill_at_any_moment_of_its_creation_the_next_command_works(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps([*map(int, SIGNALS)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [moment["code"] for moment in found] == [0] * len(SIGNALS), done.stderr
    unfinished = [moment for moment in found if "mlflow.db" not in moment["left"]]
    assert unfinished, "some kills fall into the creation"


def test_an_incomplete_store_without_data_is_replaced(make_incomplete: Callable[[str], Path]) -> None:
    database = make_incomplete("")
    assert open_client().search_experiments()[0].name == "Default"
    assert sorted(path.name for path in database.parent.glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


def test_an_incomplete_store_with_an_experiment_is_refused_and_kept(make_incomplete: Callable[[str], Path]) -> None:
    database = make_incomplete(
        "insert into experiments (experiment_id, name, workspace) values (7, 'ser-mine', 'default');"
    )
    with pytest.raises(UserError, match=r"mlflow\.db has runs or models and is damaged.*move it away"):
        open_client()
    with sqlite3.connect(database) as connection:
        assert connection.execute("select name from experiments where experiment_id = 7").fetchone() == ("ser-mine",)


def test_an_empty_store_is_left_as_it_is(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").stat()
    ensure_store(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_ino == before.st_ino


def test_two_commands_in_a_new_folder_use_one_store(tmp_path: Path) -> None:
    script = (
        "from ser_platform.tracking.mlflow_store import open_client\n"
        "import sys\n"
        "open_client().create_experiment(sys.argv[1])\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, name], cwd=tmp_path) for name in ("one", "two")]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    assert {each.name for each in open_client().search_experiments()} == {"Default", "one", "two"}


def test_another_file_under_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be read " * 20)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be read as an MLflow store.*move it away"):
        open_client()
