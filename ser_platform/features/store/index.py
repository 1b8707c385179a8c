"""The index of decoded files: one JSON file per folder of audio maps unchanged files to digests of their samples.

A file is identified by path, size and modification time, so that it is not decoded again to find its digest. The index
is by folder, so that it does not depend on label rules or on how corpora are combined.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ser_platform.corpora.audio.reader import DECODE_POLICY
from ser_platform.corpora.manifest import Utterance
from ser_platform.features.store.locks import hold_work_lock
from ser_platform.files import digest_of, write_json
from ser_platform.settings import home


@dataclass(frozen=True)
class DecodedClip:
    """The digest and duration of a decoded clip."""

    sha256: str
    duration_s: float


def make_signature(utterance: Utterance) -> str:
    """Return what identifies an unchanged clip: path, size, modification time, segment and decode policy."""
    try:
        stat = utterance.path.stat()
        file = f"{stat.st_size}:{stat.st_mtime_ns}"
    except OSError:
        file = "missing"
    return f"{utterance.path}|{file}|{utterance.start_s}|{utterance.end_s}|{DECODE_POLICY}"


class AudioIndex:
    """The entries of some folders of audio; `clips_by_signature` has the entries of all of them."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._clips_by_folder = {folder: _read_index(_find_index_file(folder)) for folder in folders}
        self._changed: set[str] = set()
        self.clips_by_signature = {
            key: value for index in self._clips_by_folder.values() for key, value in index.items()
        }

    def add(self, folder: str, key: str, decoded: DecodedClip) -> None:
        """Add a clip of a folder under its signature."""
        self.clips_by_signature[key] = self._clips_by_folder[folder][key] = decoded
        self._changed.add(folder)

    def write(self) -> None:
        """Write the folders that have changed, merged with what other processes have written."""
        for folder in sorted(self._changed):
            path = _find_index_file(folder)
            with hold_work_lock(path, "write"):
                entries = _read_index(path) | self._clips_by_folder[folder]
                write_json(path, {key: [value.sha256, value.duration_s] for key, value in entries.items()})
        self._changed.clear()


def _find_index_file(folder: str) -> Path:
    return home() / "index" / f"{digest_of(folder, 24)}.json"


def _read_index(path: Path) -> dict[str, DecodedClip]:
    try:
        return {key: DecodedClip(*value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return {}  # a cache: unreadable entries are decoded again
