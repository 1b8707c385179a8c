"""The feature store: every file decoded once, every family computed once, read back memory-mapped.

A family with its parameters and stored dtype has a folder named by their digest. It contains one shard, a memory-mapped
file with offsets; extraction appends smaller shards, which are then merged (`merging`). Clips are found by the SHA-256
of their decoded samples, which `index` has for unchanged files. Damaged features are found and extracted again
(`shard`), no file is removed while another process may read it (`locks`), and `SER_FEATURES_GB` limits the size
(`eviction`).

Processes on other machines may read the same files: `SER_HOME` is then a folder on storage that all nodes share.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import BadAudio, CorpusError, UnknownChoice, WorkFailed
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.encoded import save_encoders
from ser_platform.features.store.access_log import record_access
from ser_platform.features.store.eviction import GIGABYTE, enforce_size_limit, list_readable_folders, read_size_limit
from ser_platform.features.store.extraction import (
    ClipSource,
    JobMapper,
    find_stored_digests,
    make_jobs,
    map_on_this_machine,
)
from ser_platform.features.store.folders import families_folder, family_folder
from ser_platform.features.store.index import AudioIndex, DecodedClip, make_signature
from ser_platform.features.store.locks import hold_read_lock
from ser_platform.features.store.merging import merge_shards, remove_leftovers
from ser_platform.features.store.shard import (
    DTYPES,
    Features,
    Shard,
    compute_sums,
    list_intact_shards,
    list_recorded_shards,
)
from ser_platform.files import report_full_disk
from ser_platform.settings import slots

INDEX_WRITE_INTERVAL_S = 1.0  # shortest time between two writes of the index, which a kill can cost
MAX_INDEX_WRITE_SHARE = 0.05  # of the time may be spent on writing the index
ROUNDS = 2  # the second for clips that were evicted before it was known that this command needs them
ASSUMED_CLIP_S = 3.0  # duration of a clip where it is unknown

ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class PreparedClips:
    """A manifest with durations and audio digests, the unusable files, and the number of clips decoded by this call."""

    manifest: Manifest
    unusable: tuple[BadAudio, ...]
    n_decoded: int


def prepare_features(
    manifest: Manifest,
    names: Iterable[str],
    max_bad: float = 0.05,
    progress: ProgressCallback | None = None,
    *,
    dtype: str = "float32",
    mapper: JobMapper = map_on_this_machine,
) -> PreparedClips:
    """Store these families of every clip where they are missing; return the manifest with durations and audio digests.

    A clip with missing families is decoded once, and only the missing ones are computed. Until this process ends, no
    other process removes the families.

    Args:
        manifest: the clips; unusable files are left out and returned with their reason.
        names: names in `FAMILIES`.
        max_bad: largest share of unusable files, in [0, 1].
        progress: called with (files done, files to do).
        dtype: dtype of the stored features, one of `DTYPES`.
        mapper: runs `extract` over jobs, on this machine or a cluster.

    Raises:
        UserError: a name or the dtype is unknown.
        CorpusError: more than `max_bad` of the files are unusable; lists them.
        WorkFailed: the disk is full, or the requested features take more than `SER_FEATURES_GB`.
    """
    read_size_limit()  # raises before any work is done
    names = _check_families(names)
    save_encoders(names)
    work = _Preparation(list(manifest), names, _check_dtype(dtype))
    n_decoded = work.extract_missing(mapper, progress)
    _refuse_unusable(work.unusable, len(manifest), max_bad)
    work.finish()
    good = np.array([row for row in range(len(manifest)) if row not in work.unusable], dtype=np.int64)
    found = [work.find_clip(row) for row in good]
    prepared = manifest.take(good).with_column("audio_sha256", [clip.sha256 for clip in found])
    prepared = prepared.with_column("duration_s", [clip.duration_s for clip in found])
    return PreparedClips(prepared, tuple(work.unusable.values()), n_decoded)


def _check_families(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in FAMILIES:
            raise UnknownChoice("feature set", name, FAMILIES)
    return names


def _check_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UnknownChoice("dtype", dtype, DTYPES)
    return dtype


class _Preparation:
    """The state of one call of `prepare_features`."""

    def __init__(self, utterances: Sequence[Utterance], names: tuple[str, ...], dtype: str) -> None:
        self.utterances, self.names, self.dtype, self.root = utterances, names, dtype, families_folder()
        self.folders = [family_folder(self.root, name, dtype) for name in names]
        self.signatures = [make_signature(utterance) for utterance in utterances]
        self.audio_folders = [str(utterance.path.parent) for utterance in utterances]
        self.index = AudioIndex(dict.fromkeys(self.audio_folders))
        self.unusable: dict[int, BadAudio] = {}
        self._n_done = 0  # clips of the current round

    def find_clip(self, row: int) -> DecodedClip:
        return self.index.clips_by_signature[self.signatures[row]]

    def extract_missing(self, mapper: JobMapper, progress: ProgressCallback | None) -> int:
        """Extract the missing features; return the number of clips decoded."""
        n_decoded = 0
        for _ in range(ROUNDS):
            todo = self._find_missing()
            if not todo:
                break
            refused = len(self.unusable)
            with report_full_disk(partial(self._describe_full_disk, todo)):
                self._extract(todo, mapper, progress)
            n_decoded += len(todo) - (len(self.unusable) - refused)
        return n_decoded

    def finish(self) -> None:
        """Merge the extracted shards and record the access."""
        if digests := self._list_known_digests():
            with report_full_disk(partial(self._describe_full_disk, [])):
                finalise_families(self.names, digests, self.dtype)

    def _find_missing(self) -> list[int]:
        """Return the rows of clips that are not in the index, or missing from a family."""
        stored = [find_stored_digests(folder) for folder in self.folders]
        known = {key: bytes.fromhex(clip.sha256) for key, clip in self.index.clips_by_signature.items()}
        return [
            row
            for row, key in enumerate(self.signatures)
            if row not in self.unusable and (key not in known or any(known[key] not in clips for clips in stored))
        ]

    def _extract(self, todo: list[int], mapper: JobMapper, progress: ProgressCallback | None) -> None:
        sources = [ClipSource.from_utterance(self.utterances[row]) for row in todo]
        due, self._n_done = time.monotonic() + INDEX_WRITE_INTERVAL_S, 0
        try:
            for done in mapper(make_jobs(sources, self.names, self.dtype, self.root)):
                self._record_outcomes(todo[done.first_clip : done.first_clip + len(done.outcomes)], done.outcomes)
                self._n_done += len(done.outcomes)
                if (began := time.monotonic()) >= due:
                    self.index.write()
                    enforce_size_limit(self.root, dict.fromkeys(self.folders, self._list_known_digests()))
                    due = time.monotonic() + max(
                        INDEX_WRITE_INTERVAL_S, (time.monotonic() - began) / MAX_INDEX_WRITE_SHARE
                    )
                if progress:
                    progress(self._n_done, len(todo))
        finally:
            self.index.write()

    def _record_outcomes(self, rows: Sequence[int], outcomes: Sequence[DecodedClip | BadAudio]) -> None:
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BadAudio):
                self.unusable[row] = outcome
            else:
                self.index.add(self.audio_folders[row], self.signatures[row], outcome)

    def _list_known_digests(self) -> frozenset[bytes]:
        """Return the digests of the clips that are in the index."""
        known = self.index.clips_by_signature
        rows = (row for row in range(len(self.signatures)) if row not in self.unusable)
        return frozenset(
            bytes.fromhex(known[self.signatures[row]].sha256) for row in rows if self.signatures[row] in known
        )

    def _describe_full_disk(self, rows: Sequence[int]) -> str:
        """Return the message for a full disk, with the space that the remaining clips of `rows` need."""
        left = [self.utterances[row].duration_s or ASSUMED_CLIP_S for row in rows[self._n_done :]]
        gigabytes = (
            sum(_estimate_bytes(name, self.dtype, seconds) for name in self.names for seconds in left) / GIGABYTE
        )
        return (
            f"no space left for features in {self.root}: {len(left)} clips still need about {gigabytes:.2g} GB; "
            "free space (ser features gc), or set SER_HOME to a larger disk; extracted features are kept"
        )


def finalise_families(names: Iterable[str], digests: Collection[bytes], dtype: str) -> None:
    """Merge the shards of families, record that these clips are used, and enforce the size limit of the store.

    Raises:
        WorkFailed: the clips that may not be removed take more than the limit.
    """
    root, needed = families_folder(), frozenset(digests)
    folders = [family_folder(root, name, dtype) for name in names]
    with ThreadPoolExecutor(slots()) as pool:  # copying and hashing release the interpreter lock
        list(pool.map(partial(_finalise_folder, digests=needed), folders))
    enforce_size_limit(root, dict.fromkeys(folders, needed))


def _finalise_folder(folder: Path, digests: frozenset[bytes]) -> None:
    merge_shards(folder)
    remove_leftovers(folder)
    record_access(folder, digests)


def _estimate_bytes(name: str, dtype: str, seconds: float) -> float:
    """Return the approximate size of a clip's features, in bytes."""
    family = FAMILIES[name]
    return (1 + seconds / family.frame_s) * family.n_features * np.dtype(dtype).itemsize


def _refuse_unusable(unusable: dict[int, BadAudio], n_files: int, max_bad: float) -> None:
    if len(unusable) > max_bad * n_files:
        listed = "; ".join(str(bad) for bad in list(unusable.values())[:10])
        raise CorpusError(
            f"{len(unusable)} of {n_files} files cannot be used, more than --max-bad {max_bad:g} allows: {listed}"
        )


class StoredFamily:
    """One stored family of some clips, memory-mapped. Clips are numbered in the order of `hashes`.

    Raises:
        WorkFailed: some clips are not stored.
    """

    def __init__(self, name: str, hashes: Sequence[str], dtype: str = "float32") -> None:
        folder = family_folder(families_folder(), name, dtype)
        digests = [bytes.fromhex(digest) for digest in hashes]
        places: dict[bytes, tuple[Shard, int]] = {}
        with hold_read_lock(folder):
            for shard in list_intact_shards(folder):
                if not places.keys() >= set(digests):
                    _ = shard.data  # mapped now, so that the file may be removed afterwards
                    places = {digest: (shard, row) for row, digest in enumerate(shard.hashes)} | places
        missing = set(digests) - places.keys()
        if missing:
            raise WorkFailed(
                f"{len(missing)} clips have no stored {name} ({dtype}) in {folder}; run the command again to extract "
                "them. On a cluster SER_HOME must be the same shared folder on every node"
            )
        self._places = [places[digest] for digest in digests]
        found = [(shard.data, shard.offsets[row], shard.offsets[row + 1]) for shard, row in self._places]
        self._rows = [data[first:last] for data, first, last in found]
        self._is_checked = np.zeros(len(digests), dtype=np.bool_)
        self.lengths = np.array([len(rows) for rows in self._rows], dtype=np.int64)

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """Sums and sums of squares over each clip's rows, `(n_clips, 2, n_features)`."""
        known = [shard.read_clip(row).sums for shard, row in self._places]
        return np.stack(
            [compute_sums(self.read_clip(number)) if sums is None else sums for number, sums in enumerate(known)]
        )

    def read_clip(self, number: int) -> Features:
        """Return the features `(n_frames, n_features)` of a clip, without copying.

        Raises:
            WorkFailed: they are damaged; the shard is dropped, so that the next command extracts it again.
        """
        if not self._is_checked[number]:
            self._check(number)
        return self._rows[number]

    def _check(self, number: int) -> None:
        shard, row = self._places[number]
        if not shard.read_clip(row).is_intact:
            raise _drop_shards([shard])
        self._is_checked[number] = True


@lru_cache(maxsize=64)
def open_family(name: str, hashes: tuple[str, ...], dtype: str = "float32") -> StoredFamily:
    """Return one stored family of these clips, opened once per process."""
    return StoredFamily(name, hashes, dtype)


def verify_store(names: Iterable[str] | None = None) -> int:
    """Read all stored features, or those of these families, and compare them with their digests; return their bytes.

    Raises:
        WorkFailed: some are damaged; their shards are dropped, so that the next command extracts them again.
    """
    root = families_folder()
    if names is None:
        folders = list_readable_folders(root)
    else:
        folders = [family_folder(root, name, dtype) for name in _check_families(names) for dtype in DTYPES]
    n_bytes, damaged = 0, []
    for folder in folders:
        with hold_read_lock(folder, hold_until_exit=False):
            shards = list_recorded_shards(folder)
            damaged += [shard for shard in shards if not shard.is_intact(thorough=True)]
            n_bytes += sum(shard.n_bytes for shard in shards)
    if damaged:
        raise _drop_shards(damaged)
    return n_bytes


def _drop_shards(damaged: Sequence[Shard]) -> WorkFailed:
    """Remove the JSON files of damaged shards, which drops them. Return the error to raise."""
    for shard in damaged:
        shard.path.unlink(missing_ok=True)
    open_family.cache_clear()  # may have the damaged shards open
    return WorkFailed(
        f"{len(damaged)} stored feature files were damaged (first: {damaged[0].paths[1]}) and have been dropped; "
        "run the command again"
    )
