"""A PostgreSQL server of the tests' own, where one is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "not-to-be-printed"


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL server, which Debian keeps off the path."""
    found: list[str | Path] = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += filter(None, [shutil.which("initdb")])
    return max(map(Path, found), key=str).parent if found else None


def unprivileged() -> dict[str, Any]:
    """Return how a server is started: it refuses to run as root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def database() -> Iterator[str]:
    """Yield the address of a database on a new server with a password; skips the test where none is installed."""
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    # Not under pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as found:
        owner = unprivileged()
        if owner:
            shutil.chown(scratch, owner["user"], owner["group"])
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        data, words = Path(scratch) / "data", Path(scratch) / "password"
        words.write_text(PASSWORD)
        words.chmod(0o644)

        def run(*command: str | Path) -> None:
            subprocess.run([str(each) for each in command], check=True, capture_output=True, cwd="/", **owner)

        run(folder / "initdb", "-D", data, "-U", "ser", "-A", "scram-sha-256", "--pwfile", words, "--no-sync")
        options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        # Its log is a file: a pipe would be held open by the server.
        run(folder / "pg_ctl", "-D", data, "-w", "-l", Path(scratch) / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://ser:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
