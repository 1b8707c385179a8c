"""Ends the work of a process whose Ray cluster was lost.

Ray itself waits without a message and ends the process during a step after a minute; if its GCS server still runs, but
no node, it waits forever.
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
INTERRUPT_GRACE_S = 10.0  # for the main thread to stop
CLUSTER_TIMEOUT_S = 20.0  # for the head node to restart; Ray's own limit is 60, including its shutdown


@contextlib.contextmanager
def watch_cluster() -> Iterator[None]:
    """Interrupt the block like Ctrl-C once the cluster has not answered for `CLUSTER_TIMEOUT_S`.

    Raises:
        WorkFailed: the cluster was lost.
    """
    address = ray.get_runtime_context().gcs_address
    if threading.current_thread() is not threading.main_thread() or not _is_reachable(address):
        yield  # only the main thread can be interrupted; a cluster behind a proxy cannot be polled
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
    except LocalRayletDiedError as error:  # raised while waiting for a task if only GCS still runs
        raise WorkFailed(_describe_loss(address)) from error
    finally:
        done.set()
        watch.join(2 * POLL_INTERVAL_S)  # it calls Ray, which is shut down next


def _poll_cluster(address: str, done: threading.Event, lost: threading.Event) -> None:
    """Poll the cluster until the block ends or the cluster is lost."""
    answered_at, main = time.monotonic(), threading.main_thread().ident
    assert main is not None, "the main thread has started"
    while not done.wait(POLL_INTERVAL_S):
        if _is_reachable(address) and any(node["Alive"] for node in ray.nodes()):
            answered_at = time.monotonic()
        elif time.monotonic() - answered_at > CLUSTER_TIMEOUT_S:
            lost.set()
            signal.pthread_kill(main, signal.SIGINT)  # `interrupt_main` does not interrupt a wait
            if not done.wait(INTERRUPT_GRACE_S):
                _exit_process(address)
            return


def _exit_process(address: str) -> None:
    """End this process like a kill, which loses no result: its main thread is in a call of Ray that ignores signals."""
    cursor = "\033[?25h\n" if sys.stderr.isatty() else ""  # a progress line hides the cursor
    print(f"{cursor}ser: {_describe_loss(address)}", file=sys.stderr, flush=True)
    os._exit(WorkFailed.exit_code)


def _describe_loss(address: str) -> str:
    return f"lost the Ray cluster at {address}; all results so far are saved: continue with --resume"


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=POLL_INTERVAL_S).close()
    except OSError:
        return False
    return True
