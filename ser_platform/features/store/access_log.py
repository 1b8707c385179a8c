"""The access log of a family: which clips commands used, and when.

Each set of clips has a file `X.use` in the family's folder: it contains the digests of the clips, and its modification
time is the last access.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ser_platform.features.store.shard import Shard, split_digests
from ser_platform.files import replacing


@dataclass(frozen=True)
class ClipAccess:
    """Clips that a command used; `file` is None for those that no finished command has used."""

    file: Path | None
    accessed_at: float  # seconds since 1970
    clips: frozenset[bytes]


def record_access(folder: Path, digests: Iterable[bytes]) -> None:
    """Record that these clips are used now."""
    content = b"".join(sorted(set(digests)))
    file = folder / f"{hashlib.sha256(content).hexdigest()[:24]}.use"
    if file.exists():
        os.utime(file)
    elif content:
        with replacing(file) as temporary:
            temporary.write_bytes(content)


def read_accesses(folder: Path, shards: Iterable[Shard]) -> list[ClipAccess]:
    """Return the recorded accesses to a folder's clips, and one for clips in `shards` without a record."""
    files = [file for file in folder.glob("*.use") if file.name[0] != "."]
    accesses = [ClipAccess(file, file.stat().st_mtime, frozenset(split_digests(file.read_bytes()))) for file in files]
    recorded = frozenset().union(*(access.clips for access in accesses))
    stored = {digest: shard.path.stat().st_mtime for shard in shards for digest in shard.hashes}
    rest = stored.keys() - recorded
    return [*accesses, ClipAccess(None, max(stored[digest] for digest in rest), frozenset(rest))] if rest else accesses
