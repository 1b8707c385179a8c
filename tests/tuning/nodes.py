"""Ray nodes for tests: several on one machine, each of which ends with its block, and no other does."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

STARTED = "Ray runtime started"  # said once the cluster knows the node


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens on, all different."""
    with contextlib.ExitStack() as found:
        sockets = [found.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def ray_node(
    folder: Path, environment: dict[str, str], *words: str, port: int | None = None, within: Sequence[str] = ()
) -> Iterator[Path]:
    """A node that works in `folder`, once something answers at `port` or, without one, once the cluster knows it.

    Args:
        within: the words of a command that it is started by.

    Yields:
        Its temporary folder, in which its sockets are: their names must be short.
    """
    command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    # A node that finds the port of another's agent tries again, for seconds.
    command += ["--node-ip-address", "127.0.0.1", "--dashboard-agent-listen-port", str(free_ports(1)[0])]
    temporary = Path(tempfile.mkdtemp(prefix="ser-", dir="/tmp"))
    command += ["--temp-dir", str(temporary), *words]
    said = folder / f"said-{os.urandom(3).hex()}.txt"
    with said.open("w") as written:
        output = {"stdout": written, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **output)
    try:
        is_up = (lambda: STARTED in said.read_text()) if port is None else (lambda: answers(port))
        wait_for(lambda: is_up() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield temporary
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(temporary, ignore_errors=True)  # a process of the node may be writing its last words


def answers(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def wait_for(happened: Callable[[], object], seconds: float = 150) -> None:
    """Return once something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.05)
