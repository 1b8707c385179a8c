"""Processes that share the work on many clips."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def start_process_pool(n_processes: int, *modules: str) -> ProcessPoolExecutor:
    """Return an executor of processes that ignore Ctrl-C and end with this process, also where it is killed.

    They are forks of a server that has imported `modules` once.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return ProcessPoolExecutor(n_processes, context, _prepare_process)


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # The queue does not close when the parent is killed: its other end is open in the sibling processes.
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
