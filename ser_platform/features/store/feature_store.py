"""The feature store: every file decoded once, every family computed once, read back memory-mapped.

A family with its parameters and stored dtype has a folder named by their digest; in it lies one part, a memory-mapped
file with offsets, beside which extraction appends smaller ones until they are put together (`merging`). Clips are found
by the SHA-256 of their decoded samples, which `index` knows of unchanged files. What is stored can be trusted or is
extracted again (`shard`), nothing is removed under a process that reads it (`locks`), and `SER_FEATURES_GB` bounds
what all takes (`eviction`).

Processes on other machines read the same files: there `SER_HOME` is a folder on storage that all nodes share.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import BadAudio, CorpusError, UnknownChoice, WorkFailed
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.encoded import keep_encoders
from ser_platform.features.store.access_log import note_use
from ser_platform.features.store.eviction import GIGABYTE, keep_within_limit, limit, readable_folders
from ser_platform.features.store.extraction import Mapper, Source, folder_of, make_jobs, on_this_machine, stored_in
from ser_platform.features.store.index import Decoded, Index, signature
from ser_platform.features.store.locks import reading
from ser_platform.features.store.merging import NO_SPACE, put_together, remove_leftovers
from ser_platform.features.store.shard import DTYPES, Features, Part, parts_in, recorded_parts, sums_of
from ser_platform.settings import home, slots

INDEX_EVERY_S = 1.0  # seconds of work that a kill can cost, or INDEX_SHARE of the time spent on writing it
INDEX_SHARE = 0.05
ROUNDS = 2  # the second for clips that went, to make room, before it was known that they are needed
SECONDS = 3.0  # of a clip, where nothing is known of it

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """A manifest with durations and audio digests, the files set aside, and how many were decoded just now."""

    manifest: Manifest
    set_aside: tuple[BadAudio, ...]
    extracted: int


def families_folder() -> Path:
    """Return the folder of the stored features under `SER_HOME`."""
    return home() / "features"


def prepare(
    manifest: Manifest,
    names: Iterable[str],
    max_bad: float = 0.05,
    progress: Progress | None = None,
    *,
    dtype: str = "float32",
    mapper: Mapper = on_this_machine,
) -> Prepared:
    """Make sure that these families of every clip are stored; return the manifest with durations and audio digests.

    A clip that lacks some of them is decoded once, and what is stored of it is not computed again. From here on this
    process keeps the families from being removed by others.

    Args:
        manifest: what to prepare; unusable files are set aside with their reason.
        names: of `FAMILIES`.
        max_bad: largest share of unusable files, in [0, 1].
        progress: called with (files done, files to do).
        dtype: in which the features are stored, one of `DTYPES`.
        mapper: maps `extract` over jobs, here or elsewhere.

    Raises:
        UserError: a name or the dtype is unknown.
        CorpusError: more than `max_bad` of the files are unusable; lists them.
        WorkFailed: the disk is full, or `SER_FEATURES_GB` is less than what is asked for.
    """
    limit()  # refused before anything is done
    names = _known(names)
    keep_encoders(names)
    work = _Preparation(list(manifest), names, _known_dtype(dtype))
    n_decoded = work.run(mapper, progress)
    _refuse_too_many(work.set_aside, len(manifest), max_bad)
    work.finish()
    good = np.array([row for row in range(len(manifest)) if row not in work.set_aside], dtype=np.int64)
    found = [work.decoded(row) for row in good]
    prepared = manifest.take(good).with_column("audio_sha256", [clip.sha256 for clip in found])
    prepared = prepared.with_column("duration_s", [clip.seconds for clip in found])
    return Prepared(prepared, tuple(work.set_aside.values()), n_decoded)


def _known(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in FAMILIES:
            raise UnknownChoice("feature set", name, FAMILIES)
    return names


def _known_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UnknownChoice("dtype", dtype, DTYPES)
    return dtype


class _Preparation:
    """One call of `prepare`: what is known of its clips, and what is stored of them."""

    def __init__(self, utterances: Sequence[Utterance], names: tuple[str, ...], dtype: str) -> None:
        self.utterances, self.names, self.dtype, self.root = utterances, names, dtype, families_folder()
        self.folders = [folder_of(self.root, name, dtype) for name in names]
        self.signatures = [signature(utterance) for utterance in utterances]
        self.audio_folders = [str(utterance.path.parent) for utterance in utterances]
        self.index = Index(dict.fromkeys(self.audio_folders))
        self.set_aside: dict[int, BadAudio] = {}
        self._n_done = 0  # clips of the present round

    def decoded(self, row: int) -> Decoded:
        return self.index.known[self.signatures[row]]

    def run(self, mapper: Mapper, progress: Progress | None) -> int:
        """Extract what is missing; return how many clips were decoded."""
        n_decoded = 0
        for _ in range(ROUNDS):
            todo = self._todo()
            if not todo:
                break
            refused = len(self.set_aside)
            with self._room_for(todo):
                self._extract(todo, mapper, progress)
            n_decoded += len(todo) - (len(self.set_aside) - refused)
        return n_decoded

    def finish(self) -> None:
        """Settle what was extracted."""
        if digests := self._digests():
            with self._room_for([]):
                settle(self.names, digests, self.dtype)

    def _todo(self) -> list[int]:
        """Return the rows of clips that some family lacks, or of which nothing is known."""
        held = [stored_in(folder) for folder in self.folders]
        known = {key: bytes.fromhex(clip.sha256) for key, clip in self.index.known.items()}
        return [
            row
            for row, key in enumerate(self.signatures)
            if row not in self.set_aside and (key not in known or any(known[key] not in clips for clips in held))
        ]

    def _extract(self, todo: list[int], mapper: Mapper, progress: Progress | None) -> None:
        sources = [Source(str(clip.path), clip.start_s, clip.end_s) for clip in (self.utterances[row] for row in todo)]
        due, self._n_done = time.monotonic() + INDEX_EVERY_S, 0
        try:
            for done in mapper(make_jobs(sources, self.names, self.dtype, self.root)):
                self._note(todo[done.first : done.first + len(done.outcomes)], done.outcomes)
                self._n_done += len(done.outcomes)
                if (began := time.monotonic()) >= due:
                    self.index.write()
                    keep_within_limit(self.root, dict.fromkeys(self.folders, self._digests()))
                    due = time.monotonic() + max(INDEX_EVERY_S, (time.monotonic() - began) / INDEX_SHARE)
                if progress:
                    progress(self._n_done, len(todo))
        finally:
            self.index.write()

    def _note(self, rows: Sequence[int], outcomes: Sequence[Decoded | BadAudio]) -> None:
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BadAudio):
                self.set_aside[row] = outcome
            else:
                self.index.add(self.audio_folders[row], self.signatures[row], outcome)

    def _digests(self) -> frozenset[bytes]:
        """Return the digests of the clips of which something is known by now."""
        known = self.index.known
        rows = (row for row in range(len(self.signatures)) if row not in self.set_aside)
        return frozenset(
            bytes.fromhex(known[self.signatures[row]].sha256) for row in rows if self.signatures[row] in known
        )

    @contextlib.contextmanager
    def _room_for(self, rows: Sequence[int]) -> Iterator[None]:
        """Say in one line that the disk is full, and how much room the clips of `rows` that are not done need."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            left = [self.utterances[row].duration_s or SECONDS for row in rows[self._n_done :]]
            gigabytes = sum(_bytes_of(name, self.dtype, seconds) for name in self.names for seconds in left) / GIGABYTE
            raise WorkFailed(
                f"no space left for features in {self.root}: {len(left)} clips still need about {gigabytes:.2g} GB; "
                "make room (ser features gc), or set SER_HOME to a larger disk. What was extracted is kept"
            ) from error


def settle(names: Iterable[str], digests: Collection[bytes], dtype: str = "float32") -> None:
    """Put the parts of families together, note that these clips are needed, and hold the store to its limit.

    Raises:
        WorkFailed: what may not be removed is more than the limit.
    """
    root, needed = families_folder(), frozenset(digests)
    folders = [folder_of(root, name, dtype) for name in names]
    with ThreadPoolExecutor(slots()) as pool:  # copying and digests need no interpreter
        list(pool.map(partial(_tidy, digests=needed), folders))
    keep_within_limit(root, dict.fromkeys(folders, needed))


def _tidy(folder: Path, digests: frozenset[bytes]) -> None:
    put_together(folder)
    remove_leftovers(folder)
    note_use(folder, digests)


def _bytes_of(name: str, dtype: str, seconds: float) -> float:
    """Return about how many bytes a family takes of a clip."""
    family = FAMILIES[name]
    return (1 + seconds / family.frame_s) * family.n_features * np.dtype(dtype).itemsize


def _refuse_too_many(set_aside: dict[int, BadAudio], n_files: int, max_bad: float) -> None:
    if len(set_aside) > max_bad * n_files:
        listed = "; ".join(str(bad) for bad in list(set_aside.values())[:10])
        raise CorpusError(
            f"{len(set_aside)} of {n_files} files cannot be used, more than --max-bad {max_bad:g} allows: {listed}"
        )


class StoredFamily:
    """One family of some clips, memory-mapped. Clips are numbered in the order of `hashes`.

    Raises:
        WorkFailed: some clips are not stored.
    """

    def __init__(self, name: str, hashes: Sequence[str], dtype: str = "float32") -> None:
        folder = folder_of(families_folder(), name, dtype)
        wanted = [bytes.fromhex(digest) for digest in hashes]
        places: dict[bytes, tuple[Part, int]] = {}
        with reading(folder):
            for part in parts_in(folder):
                if not places.keys() >= set(wanted):
                    _ = part.data  # mapped now: from here on it may be removed
                    places = {digest: (part, row) for row, digest in enumerate(part.hashes)} | places
        missing = set(wanted) - places.keys()
        if missing:
            raise WorkFailed(
                f"{len(missing)} clips have no stored {name} ({dtype}) in {folder}; run the command again to extract "
                "them. On a cluster SER_HOME must be the same shared folder on every node"
            )
        self._places = [places[digest] for digest in wanted]
        found = [(part.data, part.offsets[row], part.offsets[row + 1]) for part, row in self._places]
        self._rows = [data[first:last] for data, first, last in found]
        self._checked = np.zeros(len(wanted), dtype=np.bool_)
        self.lengths = np.array([len(rows) for rows in self._rows], dtype=np.int64)

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """Sums and sums of squares over each clip's rows, `(n_clips, 2, n_features)`."""
        known = [part.clip(row).sums for part, row in self._places]
        return np.stack([sums_of(self.clip(number)) if sums is None else sums for number, sums in enumerate(known)])

    def clip(self, number: int) -> Features:
        """Return the features `(n_frames, n_features)` of a clip, without copying.

        Raises:
            WorkFailed: they are not what was written; the part is dropped, so that the next command extracts it again.
        """
        if not self._checked[number]:
            self._check(number)
        return self._rows[number]

    def _check(self, number: int) -> None:
        part, row = self._places[number]
        if not part.clip(row).is_whole:
            raise _dropped([part])
        self._checked[number] = True


@lru_cache(maxsize=64)
def open_family(name: str, hashes: tuple[str, ...], dtype: str = "float32") -> StoredFamily:
    """Open one family of these clips; a process that runs many trials opens it once."""
    return StoredFamily(name, hashes, dtype)


def verify(names: Iterable[str] | None = None) -> int:
    """Read all that is stored, or all of these families, and compare it with its digests; return how many bytes.

    Raises:
        WorkFailed: something was altered; it is dropped, so that the next command extracts it again.
    """
    root = families_folder()
    if names is None:
        folders = readable_folders(root)
    else:
        folders = [folder_of(root, name, dtype) for name in _known(names) for dtype in DTYPES]
    n_bytes, damaged = 0, []
    for folder in folders:
        with reading(folder, lease=False):
            parts = recorded_parts(folder)
            damaged += [part for part in parts if not part.is_sound(thorough=True)]
            n_bytes += sum(part.n_bytes for part in parts)
    if damaged:
        raise _dropped(damaged)
    return n_bytes


def _dropped(damaged: Sequence[Part]) -> WorkFailed:
    """Drop damaged parts: without its JSON a part is none. Return the error to raise."""
    for part in damaged:
        part.path.unlink(missing_ok=True)
    open_family.cache_clear()  # may hold what was damaged
    return WorkFailed(
        f"{len(damaged)} stored feature files were damaged (first: {damaged[0].files[1]}) and have been dropped; "
        "run the command again"
    )
