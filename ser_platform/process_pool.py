"""Processes that share the work on many clips."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, forkserver, get_context, parent_process
from typing import Any


def start_process_pool(
    n_processes: int, *modules: str, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Return an executor of processes that ignore Ctrl-C and end with this process, also where it is killed.

    They are forks of a server that has imported `modules` once. Each calls `prepare(*arguments)` before its first task.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return ProcessPoolExecutor(n_processes, context, _prepare_process, (prepare, arguments))


@contextmanager
def open_process_pool(
    n_processes: int, module: str, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Yield such an executor; where the block raises, Ctrl-C included, its processes end at once."""
    others = set(active_children())
    pool = start_process_pool(n_processes, module, prepare=prepare, arguments=arguments)
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def import_for_pool(module: str) -> None:
    """Let the server of a later pool import `module` in the background now; Ctrl-C does not interrupt the import."""
    get_context("forkserver").set_forkserver_preload([module])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_process(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    # The queue does not close when the parent is killed: its other end is open in the sibling processes.
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
