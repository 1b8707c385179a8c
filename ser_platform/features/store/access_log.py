"""Who needed which clips of a family, and when last: a note a command, cheap to renew.

A note lies in the family's folder: `X.use` holds the digests of the clips, and its modification time tells when a
command needed them last.
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
    """Clips that some command needed; `file` is None for those that no finished command has asked for."""

    file: Path | None
    accessed_at: float  # seconds since 1970
    clips: frozenset[bytes]


def record_access(folder: Path, digests: Iterable[bytes]) -> None:
    """Note that these clips are needed now."""
    content = b"".join(sorted(set(digests)))
    note = folder / f"{hashlib.sha256(content).hexdigest()[:24]}.use"
    if note.exists():
        os.utime(note)
    elif content:
        with replacing(note) as temporary:
            temporary.write_bytes(content)


def read_accesses(folder: Path, parts: Iterable[Shard]) -> list[ClipAccess]:
    """Return the uses of a folder's clips."""
    notes = [note for note in folder.glob("*.use") if note.name[0] != "."]
    uses = [ClipAccess(note, note.stat().st_mtime, frozenset(split_digests(note.read_bytes()))) for note in notes]
    noted = frozenset().union(*(use.clips for use in uses))
    stored = {digest: part.path.stat().st_mtime for part in parts for digest in part.hashes}
    rest = stored.keys() - noted
    return [*uses, ClipAccess(None, max(stored[digest] for digest in rest), frozenset(rest))] if rest else uses
