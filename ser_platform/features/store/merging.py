"""Putting the parts of a family together: what extraction has appended becomes one file."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from ser_platform.features.store.locks import hold_removal_lock, try_work_lock
from ser_platform.features.store.shard import Shard, StoredClip, list_intact_shards, write_shard
from ser_platform.files import is_disk_full

MAX_SHARDS = 16  # more are put together however little is new; else a tenth must be new: rewriting has its price
MIN_NEW_SHARE = 0.1


def merge_shards(folder: Path, drop: Collection[bytes] = ()) -> None:
    """Put the parts of a folder into one, without the clips in `drop`.

    The new part is whole before an old one goes, and an old one goes only when no other process has the folder open:
    who reads goes on reading, who adds parts goes on adding, and a kill at any moment leaves every clip in one part at
    least. Rows that are not what was written are left behind, so that they are extracted again. Without room on the
    disk for both, the parts stay.
    """
    with try_work_lock(folder, "putting-together") as mine:
        parts = list_intact_shards(folder) if mine else []
        if len(parts) < 2 and not drop:
            return
        try:
            kept = _write_merged(folder, parts, drop)
        except OSError as error:
            if is_disk_full(error):
                return
            raise
        _remove_shards(folder, [part for part in parts if part not in kept])


def _write_merged(folder: Path, parts: list[Shard], drop: Collection[bytes]) -> list[Shard]:
    """Return the parts that are to stay, a new one among them where it is worth writing."""
    if not drop:
        seen = set(parts[0].hashes)
        fresh = [part for part in parts[1:] if not seen.issuperset(part.hashes)]
        if not fresh:
            return parts[:1]
        n_fresh, n_all = (sum(part.n_bytes for part in some) for some in (fresh, parts))
        if len(parts) <= MAX_SHARDS and n_fresh < MIN_NEW_SHARE * n_all:
            return [parts[0], *fresh]
    clips: dict[bytes, StoredClip] = {}
    for part in parts:
        for position, digest in enumerate(part.hashes):
            if digest not in clips and digest not in drop and (clip := part.clip(position)).is_intact:
                clips[digest] = clip
    return [write_shard(folder, parts[0].record.about, list(clips.values()))] if clips else []


def _remove_shards(folder: Path, parts: list[Shard]) -> None:
    with hold_removal_lock(folder) as free:
        for part in parts if free else ():
            part.remove()


def remove_leftovers(folder: Path, *, everything: bool = False, dry_run: bool = False) -> int:
    """Remove the files that belong to no sound part, or all; not where another process has the folder open.

    Such files are of killed runs, damaged, or of another format. Returns how many bytes they take.
    """
    with hold_removal_lock(folder) as free:
        found = _find_leftovers(folder, everything) if free and folder.exists() else []
        n_bytes = sum(path.stat().st_size for path in found)
        for path in found if not dry_run else ():
            path.unlink()
        with contextlib.suppress(OSError):  # is not empty
            folder.rmdir()
        return n_bytes


def _find_leftovers(folder: Path, everything: bool) -> list[Path]:
    whole = set() if everything else {path for part in list_intact_shards(folder) for path in part.paths}
    files = [path for path in folder.iterdir() if path not in whole and path.is_file()]
    return [path for path in files if everything or path.suffix != ".use" or path.name.startswith(".")]
