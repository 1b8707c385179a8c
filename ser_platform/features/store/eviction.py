"""The content and size of the store, and eviction of the least recently used clips.

Families that another running process has open, and clips that the current command needs, are never removed.
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
from ser_platform.features.families.computation import family_cache_key
from ser_platform.features.families.encoded import parse_family_description
from ser_platform.features.store.access_log import ClipAccess, read_accesses
from ser_platform.features.store.folders import family_folder
from ser_platform.features.store.locks import LOCKS_FOLDER, hold_read_lock, is_in_use
from ser_platform.features.store.merging import merge_shards, remove_leftovers
from ser_platform.features.store.shard import DTYPES, list_intact_shards, list_recorded_shards

GIGABYTE = 10**9

NeededClips = Mapping[Path, Collection[bytes]]  # folder -> the clips that the current command needs


@dataclass(frozen=True)
class StoredFamilySummary:
    """A stored family. `about` describes it; it is empty where this version cannot read it."""

    folder: Path
    about: dict[str, Any]
    dtype: str
    n_clips: int
    n_bytes: int
    accessed_at: float | None  # seconds since 1970
    is_readable: bool


def read_size_limit() -> int | None:
    """Return how many bytes the store may take (`SER_FEATURES_GB`), None without a limit.

    Raises:
        UserError: the variable is no number above 0.
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


def list_family_folders(root: Path) -> list[Path]:
    """Return the folders of all stored families, readable or not."""
    return sorted(path for path in root.glob("*") if path.is_dir() and path.name != LOCKS_FOLDER)


def measure_folder_size(folder: Path) -> int:
    """Return the size of the files in a folder, in bytes."""
    n_bytes = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # merged or removed by another process
            n_bytes += path.stat().st_size
    return n_bytes


def list_stored_families(root: Path) -> list[StoredFamilySummary]:
    """Return a summary of each stored family."""
    readable = _find_readable_folders(root)
    return [_summarise_folder(folder, folder in readable) for folder in list_family_folders(root)]


def _find_readable_folders(root: Path) -> set[Path]:
    """Return the folders that this version can read, existing or not; for encoders, the existing ones.

    A family of an encoder is identified by its shards' description, so that it is kept while the encoder is missing.
    """
    encoder_folders = {folder for folder in list_family_folders(root) if _is_encoder_folder(folder)}
    return {family_folder(root, name, dtype) for name in FAMILIES for dtype in DTYPES} | encoder_folders


def _is_encoder_folder(folder: Path) -> bool:
    for shard in list_recorded_shards(folder):
        family = parse_family_description(shard.record.about)
        if family is not None:
            return folder.name == f"{family_cache_key('', family)}-{shard.record.dtype}"
    return False


def list_readable_folders(root: Path) -> list[Path]:
    """Return the existing folders that this version can read."""
    readable = _find_readable_folders(root)
    return [folder for folder in list_family_folders(root) if folder in readable]


def _summarise_folder(folder: Path, readable: bool) -> StoredFamilySummary:
    with hold_read_lock(folder, hold_until_exit=False):
        shards = list_intact_shards(folder)
        clips = {digest for shard in shards for digest in shard.hashes}
        accessed_at = max((access.accessed_at for access in read_accesses(folder, shards)), default=None)
    record = shards[0].record if shards else None
    about, dtype = (record.about, record.dtype) if record else ({}, "")
    return StoredFamilySummary(folder, about, dtype, len(clips), measure_folder_size(folder), accessed_at, readable)


class _EvictionCandidate:
    """One family: the clips that may be removed, and their size."""

    def __init__(self, folder: Path, needed: Collection[bytes] | None) -> None:
        self.folder, self._needed = folder, frozenset(needed or ())
        with hold_read_lock(folder, hold_until_exit=False):
            shards = list_intact_shards(folder)
            self._sizes = {digest: size for shard in shards for digest, size in shard.sizes.items()}
            accesses = read_accesses(folder, shards)
        # In a family that this command extracts, clips without a recorded access are this command's.
        self.accesses = [access for access in accesses if access.file or needed is None]
        self._n_accesses = Counter(digest for access in self.accesses for digest in access.clips)
        self._evicted: set[bytes] = set()
        self._access_files: list[Path] = []

    def release(self, access: ClipAccess) -> int:
        """Release the clips of one access; return the size in bytes of those that no other access has."""
        self._n_accesses.subtract(access.clips)
        if access.file:
            self._access_files.append(access.file)
        gone = {digest for digest in access.clips if not self._n_accesses[digest]} - self._needed & self._sizes.keys()
        self._evicted |= gone
        return sum(self._sizes[digest] for digest in gone)

    def remove(self) -> None:
        """Remove the released clips."""
        if self._evicted:
            merge_shards(self.folder, self._evicted)
        for file in self._access_files:
            file.unlink(missing_ok=True)
        remove_leftovers(self.folder)


def evict_clips(
    root: Path,
    max_bytes: float,
    needed: NeededClips | None = None,
    accessed_before: float = -math.inf,
    dry_run: bool = False,
) -> int:
    """Remove the least recently used clips until the store takes `max_bytes`, and all last used before
    `accessed_before` (seconds since 1970).

    Returns the number of bytes freed; with `dry_run`, nothing is removed.
    """
    needed = needed or {}
    folders = list_family_folders(root)
    total = sum(measure_folder_size(folder) for folder in folders)
    families = [_EvictionCandidate(folder, needed.get(folder)) for folder in folders if not is_in_use(folder)]
    accesses = sorted(
        ((access, family) for family in families for access in family.accesses), key=lambda pair: pair[0].accessed_at
    )
    freed = 0
    for access, family in accesses:
        if total - freed > max_bytes or access.accessed_at < accessed_before:
            freed += family.release(access)
    for family in families if freed and not dry_run else ():
        family.remove()
    return freed


def enforce_size_limit(root: Path, needed: NeededClips) -> None:
    """Remove clips until the store takes at most `SER_FEATURES_GB`.

    Raises:
        WorkFailed: the clips that may not be removed take more.
    """
    max_bytes = read_size_limit()
    if max_bytes is None or measure_store_size(root) <= max_bytes:
        return
    evict_clips(root, max_bytes, needed)
    if (left := measure_store_size(root)) > max_bytes:
        raise WorkFailed(
            f"the features that this command and other processes use take at least {left / GIGABYTE:.3g} GB; "
            f"SER_FEATURES_GB allows {max_bytes / GIGABYTE:.3g}: raise it, or use fewer feature sets"
        )


def measure_store_size(root: Path) -> int:
    """Return the size of all families in bytes."""
    return sum(measure_folder_size(folder) for folder in list_family_folders(root))


def collect_garbage(
    root: Path, max_bytes: float = math.inf, accessed_before: float = -math.inf, dry_run: bool = False
) -> int:
    """Remove leftovers of killed runs and families that this version cannot read, then call `evict_clips`.

    Returns the number of bytes freed; with `dry_run`, nothing is removed.
    """
    readable, folders = _find_readable_folders(root), list_family_folders(root)
    freed = sum(remove_leftovers(folder, everything=folder not in readable, dry_run=dry_run) for folder in folders)
    return freed + evict_clips(root, max_bytes, accessed_before=accessed_before, dry_run=dry_run)
