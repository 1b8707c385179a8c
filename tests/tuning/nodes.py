"""Ray nodes for tests: several on one machine, each ended at the end of its block."""

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

STARTED = "Ray runtime started"  # in the output once the node has joined


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
    """Start a node in `folder`; continue once `port` answers or, without a port, once the node has joined.

    Args:
        within: words of a command that starts it.

    Yields:
        Its temporary folder, with its sockets: their paths must be short.
    """
    command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    # A node whose agent port is in use retries for seconds.
    command += ["--node-ip-address", "127.0.0.1", "--dashboard-agent-listen-port", str(free_ports(1)[0])]
    temporary = Path(tempfile.mkdtemp(prefix="ser-", dir="/tmp"))
    command += ["--temp-dir", str(temporary), *words]
    text = folder / f"output-{os.urandom(3).hex()}.txt"
    with text.open("w") as written:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, stdout=written, stderr=subprocess.STDOUT
        )
    try:

        def is_up() -> bool:
            return STARTED in text.read_text() if port is None else answers(port)

        wait_for(lambda: is_up() or process.poll() is not None)
        assert process.poll() is None, text.read_text()
        yield temporary
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(temporary, ignore_errors=True)  # a process of the node may still be writing


def answers(port: int) -> bool:
    """Return whether a process listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(happened: Callable[[], object], seconds: float = 150) -> None:
    """Return once `happened()` is true."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds:g} s without success"
        time.sleep(0.05)
