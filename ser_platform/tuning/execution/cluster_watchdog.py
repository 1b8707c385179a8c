"""Ends the work of a process whose Ray cluster is gone.

Ray waits for it in silence, and ends the process in mid-step after a minute; where GCS lives on, without any node, it
waits for ever.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import ray
from ray.exceptions import LocalRayletDiedError

from ser_platform.errors import WorkFailed

LOOK_S = 2.0
GRACE_S = 10.0  # of a main thread that is asked to stop
PATIENCE_S = 20.0  # of a head that starts again; Ray's own is 60, of which its shutdown takes a part


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Stop the block as Ctrl-C does once the cluster that this process has joined has been away for `PATIENCE_S`.

    Raises:
        WorkFailed: it is gone.
    """
    address = ray.get_runtime_context().gcs_address
    if threading.current_thread() is not threading.main_thread() or not _answers(address):
        yield  # Ctrl-C comes to the main thread alone; what is behind a proxy cannot be watched
        return
    over, gone = threading.Event(), threading.Event()
    watch = threading.Thread(target=_watch, args=(address, over, gone), name="cluster-watch", daemon=True)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        if not gone.is_set():
            raise
        raise WorkFailed(_told(address)) from None
    except LocalRayletDiedError as error:  # comes where GCS lives on, to who waits for a task
        raise WorkFailed(_told(address)) from error
    finally:
        over.set()
        watch.join(2 * LOOK_S)  # it asks Ray, which is left next


def _watch(address: str, over: threading.Event, gone: threading.Event) -> None:
    """Look until the block is over, or the cluster gone."""
    seen, main = time.monotonic(), threading.main_thread().ident
    assert main is not None, "it runs"
    while not over.wait(LOOK_S):
        if _answers(address) and any(node["Alive"] for node in ray.nodes()):
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE_S:
            gone.set()
            signal.pthread_kill(main, signal.SIGINT)  # not `interrupt_main`, which a wait sleeps through
            if not over.wait(GRACE_S):
                _end(address)
            return


def _end(address: str) -> None:
    """End a process whose main thread Ray holds in a call that no signal ends: as a kill does, which loses nothing."""
    cursor = "\033[?25h\n" if sys.stderr.isatty() else ""  # which a progress line hides
    print(f"{cursor}ser: {_told(address)}", file=sys.stderr, flush=True)
    os._exit(WorkFailed.exit_code)


def _told(address: str) -> str:
    return f"the Ray cluster at {address} is gone; what was done is kept: a tuning or a training goes on with --resume"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK_S).close()
    except OSError:
        return False
    return True
