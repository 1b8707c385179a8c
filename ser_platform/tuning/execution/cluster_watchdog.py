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

POLL_INTERVAL_S = 2.0
INTERRUPT_GRACE_S = 10.0  # of a main thread that is asked to stop
CLUSTER_TIMEOUT_S = 20.0  # of a head that starts again; Ray's own is 60, of which its shutdown takes a part


@contextlib.contextmanager
def watch_cluster() -> Iterator[None]:
    """Stop the block as Ctrl-C does once the cluster of this process has been away for `CLUSTER_TIMEOUT_S`.

    Raises:
        WorkFailed: it is gone.
    """
    address = ray.get_runtime_context().gcs_address
    if threading.current_thread() is not threading.main_thread() or not _is_reachable(address):
        yield  # Ctrl-C comes to the main thread alone; what is behind a proxy cannot be watched
        return
    done, lost = threading.Event(), threading.Event()
    watch = threading.Thread(target=_poll_cluster, args=(address, done, lost), name="cluster-watch", daemon=True)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
        raise WorkFailed(_describe_loss(address)) from None
    except LocalRayletDiedError as error:  # comes where GCS lives on, to who waits for a task
        raise WorkFailed(_describe_loss(address)) from error
    finally:
        done.set()
        watch.join(2 * POLL_INTERVAL_S)  # it asks Ray, which is left next


def _poll_cluster(address: str, done: threading.Event, lost: threading.Event) -> None:
    """Look until the block is over, or the cluster gone."""
    answered_at, main = time.monotonic(), threading.main_thread().ident
    assert main is not None, "it runs"
    while not done.wait(POLL_INTERVAL_S):
        if _is_reachable(address) and any(node["Alive"] for node in ray.nodes()):
            answered_at = time.monotonic()
        elif time.monotonic() - answered_at > CLUSTER_TIMEOUT_S:
            lost.set()
            signal.pthread_kill(main, signal.SIGINT)  # not `interrupt_main`, which a wait sleeps through
            if not done.wait(INTERRUPT_GRACE_S):
                _exit_process(address)
            return


def _exit_process(address: str) -> None:
    """End a process whose main thread Ray holds in a call that no signal ends: as a kill does, which loses nothing."""
    cursor = "\033[?25h\n" if sys.stderr.isatty() else ""  # which a progress line hides
    print(f"{cursor}ser: {_describe_loss(address)}", file=sys.stderr, flush=True)
    os._exit(WorkFailed.exit_code)


def _describe_loss(address: str) -> str:
    return f"the Ray cluster at {address} is gone; what was done is kept: a tuning or a training goes on with --resume"


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=POLL_INTERVAL_S).close()
    except OSError:
        return False
    return True
