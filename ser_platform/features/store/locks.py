"""Who uses a folder of features: a lease for as long as a process lives, a lock for the moment of a change.

Both are `flock`: they end with their process, however it ends, so a kill leaves nothing that must time out, and they
reach as far as the storage does, so processes on all nodes of a cluster see each other on shared storage (NFS 4, or
Lustre mounted with `flock`). Whoever opens or extracts takes a lease under the shared lock; whoever removes files holds
the exclusive lock and finds no lease but its own: a file that a process may read does not vanish under it.
"""

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ser_platform.errors import WorkFailed

LOCKS_FOLDER = ".locks"  # beside the folders, so that removing a folder does not remove what guards it
_process_locks: dict[
    tuple[int, Path], tuple[Path, int]
] = {}  # (process, folder) -> this process's lease, and its open file


@contextlib.contextmanager
def hold_read_lock(folder: Path, hold_until_exit: bool = True) -> Iterator[None]:
    """While the block lasts nothing is removed from `folder`; with a lease, nothing until the process ends."""
    with _hold_lock(folder, fcntl.LOCK_SH):
        if hold_until_exit:
            _take_process_lock(folder)
        yield


@contextlib.contextmanager
def hold_removal_lock(folder: Path) -> Iterator[bool]:
    """Keep others from opening `folder` while the block lasts; yields whether no other process has it open."""
    with _hold_lock(folder, fcntl.LOCK_EX):
        yield not _is_used_by_others(folder)


@contextlib.contextmanager
def try_work_lock(folder: Path, work: str) -> Iterator[bool]:
    """Yield whether this is the only process that does `work` on `folder`; does not wait for another."""
    with _hold_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, work) as got:
        yield got


@contextlib.contextmanager
def hold_work_lock(folder: Path, work: str) -> Iterator[None]:
    """Do `work` on `folder` while no other process does; waits for it."""
    with _hold_lock(folder, fcntl.LOCK_EX, work):
        yield


def is_in_use(folder: Path) -> bool:
    """Tell whether another live process has `folder` open."""
    with hold_removal_lock(folder) as free:
        return not free


@contextlib.contextmanager
def _hold_lock(folder: Path, how: int, work: str = "lock") -> Iterator[bool]:
    handle = _open(folder.parent / LOCKS_FOLDER / f"{folder.name}.{work}")
    try:
        yield _flock(handle, how)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _flock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise WorkFailed("the storage under SER_HOME has no file locks (flock); mount it with locks") from error
        raise
    return True


def _take_process_lock(folder: Path) -> None:
    """Take this process's lease; the caller holds the lock, so nobody takes it for a dead one meanwhile."""
    held = _process_locks.get((os.getpid(), folder))
    if held is not None and held[0].exists():
        return
    path = folder.parent / LOCKS_FOLDER / f"{folder.name}.{uuid.uuid4().hex}.lease"
    handle = _open(path)
    _flock(handle, fcntl.LOCK_EX)
    _process_locks[os.getpid(), folder] = path, handle


def _is_used_by_others(folder: Path) -> bool:
    """Tell whether another process has a lease; removes leases of dead ones. The caller holds the exclusive lock."""
    mine = _process_locks.get((os.getpid(), folder))
    leases = (folder.parent / LOCKS_FOLDER).glob(f"{folder.name}.*.lease")
    return any(_is_held(path) for path in leases if mine is None or path != mine[0])


def _is_held(path: Path) -> bool:
    handle = _open(path)
    try:
        if not _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)
