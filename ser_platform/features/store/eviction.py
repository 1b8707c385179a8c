"""What the store holds, and what goes when it is too much: the least recently used first.

What another live process has open stays, and so does what the present command needs.
"""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError, WorkFailed
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import family_key
from ser_platform.features.families.encoded import family_described
from ser_platform.features.store.access_log import Use, uses_of
from ser_platform.features.store.extraction import folder_of
from ser_platform.features.store.locks import LOCKS, in_use, reading
from ser_platform.features.store.merging import put_together, remove_leftovers
from ser_platform.features.store.shard import DTYPES, parts_in, recorded_parts

GIGABYTE = 10**9

Needed = Mapping[Path, Collection[bytes]]  # folder -> the clips that the present command needs


@dataclass(frozen=True)
class Stored:
    """A family with its parameters, as stored. `about` is empty where this version cannot read it."""

    folder: Path
    about: dict[str, Any]
    dtype: str
    n_clips: int
    n_bytes: int
    used_at: float | None  # seconds since 1970
    readable: bool


def limit() -> int | None:
    """Return how many bytes the store may take (`SER_FEATURES_GB`), None without a limit.

    Raises:
        UserError: the variable holds no number above 0.
    """
    text = os.environ.get("SER_FEATURES_GB")
    if not text:
        return None
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise UserError(f"SER_FEATURES_GB must be a number of gigabytes above 0; got {text!r}")
    return int(gigabytes * GIGABYTE)


def folders_in(root: Path) -> list[Path]:
    """Return the folders of all families."""
    return sorted(path for path in root.glob("*") if path.is_dir() and path.name != LOCKS)


def size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder take."""
    n_bytes = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # put together or removed this moment
            n_bytes += path.stat().st_size
    return n_bytes


def listing(root: Path) -> list[Stored]:
    """Return what is stored."""
    readable = _readable(root)
    return [_stored(folder, folder in readable) for folder in folders_in(root)]


def _readable(root: Path) -> set[Path]:
    """Return the folders that this version can read, there or not; of encoders, those that are there.

    An encoder's family is known by its description, so that it stays when the encoder is not at hand.
    """
    encoded = {folder for folder in folders_in(root) if _is_encoded(folder)}
    return {folder_of(root, name, dtype) for name in FAMILIES for dtype in DTYPES} | encoded


def _is_encoded(folder: Path) -> bool:
    for part in recorded_parts(folder):
        family = family_described(part.record.about)
        if family is not None:
            return folder.name == f"{family_key('', family)}-{part.record.dtype}"
    return False


def readable_folders(root: Path) -> list[Path]:
    """Return the folders that are there and that this version can read."""
    readable = _readable(root)
    return [folder for folder in folders_in(root) if folder in readable]


def _stored(folder: Path, readable: bool) -> Stored:
    with reading(folder, lease=False):
        parts = parts_in(folder)
        clips = {digest for part in parts for digest in part.hashes}
        used_at = max((use.used_at for use in uses_of(folder, parts)), default=None)
    record = parts[0].record if parts else None
    about, dtype = (record.about, record.dtype) if record else ({}, "")
    return Stored(folder, about, dtype, len(clips), size_of(folder), used_at, readable)


class _Family:
    """What may go of one family, and what it would free."""

    def __init__(self, folder: Path, needed: Collection[bytes] | None) -> None:
        self.folder, self._needed = folder, frozenset(needed or ())
        with reading(folder, lease=False):
            parts = parts_in(folder)
            self._sizes = {digest: size for part in parts for digest, size in part.sizes.items()}
            uses = uses_of(folder, parts)
        # In a family that is being extracted, what no note names yet is the present command's.
        self.uses = [use for use in uses if use.note or needed is None]
        self._users = Counter(digest for use in self.uses for digest in use.clips)
        self._gone: set[bytes] = set()
        self._notes: list[Path] = []

    def forget(self, use: Use) -> int:
        """Give up a use; return how many bytes nobody needs any more."""
        self._users.subtract(use.clips)
        if use.note:
            self._notes.append(use.note)
        gone = {digest for digest in use.clips if not self._users[digest]} - self._needed & self._sizes.keys()
        self._gone |= gone
        return sum(self._sizes[digest] for digest in gone)

    def remove(self) -> None:
        """Remove what was given up."""
        if self._gone:
            put_together(self.folder, self._gone)
        for note in self._notes:
            note.unlink(missing_ok=True)
        remove_leftovers(self.folder)


def make_room(
    root: Path, to_bytes: float, needed: Needed | None = None, before: float = -math.inf, dry_run: bool = False
) -> int:
    """Remove the least recently used clips until the store takes `to_bytes`, and all that were used last `before`.

    Returns how many bytes that frees.
    """
    needed = needed or {}
    folders = folders_in(root)
    total = sum(size_of(folder) for folder in folders)
    families = [_Family(folder, needed.get(folder)) for folder in folders if not in_use(folder)]
    uses = sorted(((use, family) for family in families for use in family.uses), key=lambda pair: pair[0].used_at)
    freed = 0
    for use, family in uses:
        if total - freed > to_bytes or use.used_at < before:
            freed += family.forget(use)
    for family in families if freed and not dry_run else ():
        family.remove()
    return freed


def keep_within_limit(root: Path, needed: Needed) -> None:
    """Hold the store to `SER_FEATURES_GB`.

    Raises:
        WorkFailed: what may not be removed is more than that.
    """
    most = limit()
    if most is None or total_size(root) <= most:
        return
    make_room(root, most, needed)
    if (left := total_size(root)) > most:
        raise WorkFailed(
            f"the features that this command and other processes need take {left / GIGABYTE:.3g} GB and more; "
            f"SER_FEATURES_GB allows {most / GIGABYTE:.3g}: raise it, or ask for fewer feature sets"
        )


def total_size(root: Path) -> int:
    """Return how many bytes all families take."""
    return sum(size_of(folder) for folder in folders_in(root))


def collect_garbage(root: Path, to_bytes: float = math.inf, before: float = -math.inf, dry_run: bool = False) -> int:
    """Remove leftovers of killed runs, what this version cannot read, and then what `make_room` does.

    Returns how many bytes that frees, or would.
    """
    readable, folders = _readable(root), folders_in(root)
    freed = sum(remove_leftovers(folder, everything=folder not in readable, dry_run=dry_run) for folder in folders)
    return freed + make_room(root, to_bytes, before=before, dry_run=dry_run)
