"""How many threads torch computes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Limit(threading.local):
    """Whether the present thread is inside `limit_to_one_thread`."""

    is_active = False


class _Blocks:
    """The blocks that are active in this process.

    torch's number of threads is partly of the process, partly of a thread: a thread that starts while another one is
    inside a block would otherwise take its 1 for the number to restore.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_active = self._before = 0

    def enter(self) -> int:
        """Count a block; return the number of threads before the first of the active ones."""
        with self._lock:
            if self._n_active == 0:
                self._before = torch.get_num_threads()
            self._n_active += 1
            return self._before

    def leave(self) -> None:
        with self._lock:
            self._n_active -= 1


_LIMIT, _BLOCKS = _Limit(), _Blocks()


@contextmanager
def limit_to_one_thread() -> Iterator[None]:
    """Let torch compute on one thread inside the block. Blocks may be nested, and active in several threads."""
    if _LIMIT.is_active:
        yield
        return
    before = _BLOCKS.enter()
    _LIMIT.is_active = True
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _LIMIT.is_active = False
        _BLOCKS.leave()
