"""Locks on folders of features: a lease for the lifetime of a process, a lock for the duration of a change.

Both are `flock` locks. The operating system releases them when their process ends, even when it is killed. On shared
storage (NFS 4, or Lustre mounted with `flock`) they work between all nodes of a cluster. A process that opens or
extracts features takes a lease under the shared lock. A process that removes files holds the exclusive lock and checks
that there is no lease but its own, so that no file is removed while another process may read it.
"""

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ser_platform.errors import WorkFailed

LOCKS_FOLDER = ".locks"  # outside the folders, so that removing a folder does not remove its locks
# (process, folder) -> the lease file of this process, and its open handle
_process_locks: dict[tuple[int, Path], tuple[Path, int]] = {}


@contextlib.contextmanager
def hold_read_lock(folder: Path, hold_until_exit: bool = True) -> Iterator[None]:
    """Prevent removal of files from `folder` during the block; with `hold_until_exit`, until this process ends."""
    with _hold_lock(folder, fcntl.LOCK_SH):
        if hold_until_exit:
            _take_process_lock(folder)
        yield


@contextlib.contextmanager
def hold_removal_lock(folder: Path) -> Iterator[bool]:
    """Prevent other processes from opening `folder` during the block; yield whether no other has it open."""
    with _hold_lock(folder, fcntl.LOCK_EX):
        yield not _is_used_by_others(folder)


@contextlib.contextmanager
def try_work_lock(folder: Path, work: str) -> Iterator[bool]:
    """Yield whether this is the only process that does `work` on `folder`; do not wait for another."""
    with _hold_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, work) as is_locked:
        yield is_locked


@contextlib.contextmanager
def hold_work_lock(folder: Path, work: str) -> Iterator[None]:
    """Wait until no other process does `work` on `folder`, and exclude others during the block."""
    with _hold_lock(folder, fcntl.LOCK_EX, work):
        yield


def is_in_use(folder: Path) -> bool:
    """Return whether another running process has `folder` open."""
    with hold_removal_lock(folder) as is_free:
        return not is_free


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
            raise WorkFailed("the storage under SER_HOME has no file locks (flock); mount it with them") from error
        raise
    return True


def _take_process_lock(folder: Path) -> None:
    """Take this process's lease. The caller holds the shared lock, so that no process removes the new lease file."""
    held = _process_locks.get((os.getpid(), folder))
    if held is not None and held[0].exists():
        return
    path = folder.parent / LOCKS_FOLDER / f"{folder.name}.{uuid.uuid4().hex}.lease"
    handle = _open(path)
    _flock(handle, fcntl.LOCK_EX)
    _process_locks[os.getpid(), folder] = path, handle


def _is_used_by_others(folder: Path) -> bool:
    """Return whether another process has a lease; remove leases of ended ones. The caller holds the exclusive lock."""
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
