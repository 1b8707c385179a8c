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

LOCKS = ".locks"  # beside the folders, so that removing a folder does not remove what guards it
_held: dict[tuple[int, Path], tuple[Path, int]] = {}  # (process, folder) -> this process's lease, and its open file


@contextlib.contextmanager
def reading(folder: Path, lease: bool = True) -> Iterator[None]:
    """While the block lasts nothing is removed from `folder`; with a lease, nothing until the process ends."""
    with _locked(folder, fcntl.LOCK_SH):
        if lease:
            _lease(folder)
        yield


@contextlib.contextmanager
def removing(folder: Path) -> Iterator[bool]:
    """Keep others from opening `folder` while the block lasts; yields whether no other process has it open."""
    with _locked(folder, fcntl.LOCK_EX):
        yield not _others_use(folder)


@contextlib.contextmanager
def alone(folder: Path, work: str) -> Iterator[bool]:
    """Yield whether this is the only process that does `work` on `folder`; does not wait for another."""
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, work) as got:
        yield got


@contextlib.contextmanager
def in_turn(folder: Path, work: str) -> Iterator[None]:
    """Do `work` on `folder` while no other process does; waits for it."""
    with _locked(folder, fcntl.LOCK_EX, work):
        yield


def in_use(folder: Path) -> bool:
    """Tell whether another live process has `folder` open."""
    with removing(folder) as free:
        return not free


@contextlib.contextmanager
def _locked(folder: Path, how: int, work: str = "lock") -> Iterator[bool]:
    handle = _open(folder.parent / LOCKS / f"{folder.name}.{work}")
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


def _lease(folder: Path) -> None:
    """Take this process's lease; the caller holds the lock, so nobody takes it for a dead one meanwhile."""
    held = _held.get((os.getpid(), folder))
    if held is not None and held[0].exists():
        return
    path = folder.parent / LOCKS / f"{folder.name}.{uuid.uuid4().hex}.lease"
    handle = _open(path)
    _flock(handle, fcntl.LOCK_EX)
    _held[os.getpid(), folder] = path, handle


def _others_use(folder: Path) -> bool:
    """Tell whether another process has a lease; removes leases of dead ones. The caller holds the exclusive lock."""
    mine = _held.get((os.getpid(), folder))
    leases = (folder.parent / LOCKS).glob(f"{folder.name}.*.lease")
    return any(_is_live(path) for path in leases if mine is None or path != mine[0])


def _is_live(path: Path) -> bool:
    handle = _open(path)
    try:
        if not _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(handle)
