"""Merging the shards of a family into one, and removing files that belong to no shard."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from ser_platform.features.store.locks import hold_removal_lock, try_work_lock
from ser_platform.features.store.shard import Shard, StoredClip, list_intact_shards, write_shard
from ser_platform.files import is_disk_full

MAX_SHARDS = 16  # more are always merged
MIN_NEW_SHARE = 0.1  # of the bytes of fewer shards: merging rewrites all of them


def merge_shards(folder: Path, drop: Collection[bytes] = ()) -> None:
    """Merge the shards of a folder into one, without the clips in `drop`.

    Old shards are removed after the new one is complete, and only while no other process has the folder open. Other
    processes can go on reading and adding shards, and a kill at any moment leaves every clip in at least one shard.
    Damaged rows are left out, so that they are extracted again. Where the disk is full, the shards stay as they are.
    """
    with try_work_lock(folder, "merge") as is_locked:
        shards = list_intact_shards(folder) if is_locked else []
        if len(shards) < 2 and not drop:
            return
        try:
            kept = _write_merged(folder, shards, drop)
        except OSError as error:
            if is_disk_full(error):
                return
            raise
        _remove_shards(folder, [shard for shard in shards if shard not in kept])


def _write_merged(folder: Path, shards: list[Shard], drop: Collection[bytes]) -> list[Shard]:
    """Return the shards to keep; write a merged one where enough is new."""
    if not drop:
        seen = set(shards[0].hashes)
        fresh = [shard for shard in shards[1:] if not seen.issuperset(shard.hashes)]
        if not fresh:
            return shards[:1]
        n_fresh, n_all = (sum(shard.n_bytes for shard in some) for some in (fresh, shards))
        if len(shards) <= MAX_SHARDS and n_fresh < MIN_NEW_SHARE * n_all:
            return [shards[0], *fresh]
    clips: dict[bytes, StoredClip] = {}
    for shard in shards:
        for position, digest in enumerate(shard.hashes):
            if digest not in clips and digest not in drop and (clip := shard.read_clip(position)).is_intact:
                clips[digest] = clip
    return [write_shard(folder, shards[0].record.about, list(clips.values()))] if clips else []


def _remove_shards(folder: Path, shards: list[Shard]) -> None:
    with hold_removal_lock(folder) as is_free:
        for shard in shards if is_free else ():
            shard.remove()


def remove_leftovers(folder: Path, *, everything: bool = False, dry_run: bool = False) -> int:
    """Remove the files that belong to no intact shard, or all files; nothing where another process has the folder open.

    Such files are left by killed runs, damaged, or of another format. Returns their size in bytes; with `dry_run` they
    stay.
    """
    with hold_removal_lock(folder) as is_free:
        found = _find_leftovers(folder, everything) if is_free and folder.exists() else []
        n_bytes = sum(path.stat().st_size for path in found)
        for path in found if not dry_run else ():
            path.unlink()
        with contextlib.suppress(OSError):  # the folder is not empty
            folder.rmdir()
        return n_bytes


def _find_leftovers(folder: Path, everything: bool) -> list[Path]:
    whole = set() if everything else {path for shard in list_intact_shards(folder) for path in shard.paths}
    files = [path for path in folder.iterdir() if path not in whole and path.is_file()]
    return [path for path in files if everything or path.suffix != ".use" or path.name.startswith(".")]
