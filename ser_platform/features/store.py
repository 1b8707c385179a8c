"""The feature store: every file decoded once, every family computed once, read back memory-mapped.

A family has a folder named by its key; in it lie shards, each the features of some clips, one after another: `X.npy`
`(rows, n_features)`, `X.sums.npy` `(n_clips, 2, n_features)` and `X.json`. The JSON is written last and renamed into
place, so a shard is whole or absent, and two processes that extract at once at worst compute a clip twice. Clips are
found by the SHA-256 of their decoded samples; path, size and modification time index it, so an unchanged file is not
decoded to learn its hash.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio import DECODE_POLICY, read_audio
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import BadAudio, CorpusError, WorkFailed
from ser_platform.features import FEATURE_SETS
from ser_platform.features.families import compute, family_key
from ser_platform.features.normaliser import Normaliser
from ser_platform.features.view import FeatureView
from ser_platform.files import digest_of, sha256_of, write_json
from ser_platform.settings import home, slots

SHARD_CLIPS = 64
INDEX_EVERY_S = 1.0  # seconds of work that a kill can cost, or INDEX_SHARE of the time spent on writing it
INDEX_SHARE = 0.05
POOL_PAYS_FROM = 3000  # files; below, starting processes (3 s, for torch) costs more than it gains

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shard:
    """Where the features of some clips lie."""

    path: Path
    hashes: tuple[str, ...]
    lengths: tuple[int, ...]
    sha256: str
    sums_sha256: str

    @property
    def sums_path(self) -> Path:
        return self.path.with_suffix(".sums.npy")

    @property
    def is_whole(self) -> bool:
        """Whether both files are what was written."""
        pairs = ((self.path, self.sha256), (self.sums_path, self.sums_sha256))
        return all(path.exists() and sha256_of(path) == digest for path, digest in pairs)


@dataclass(frozen=True)
class Prepared:
    """A manifest with durations and audio digests, the files set aside, and how many were decoded just now."""

    manifest: Manifest
    set_aside: tuple[BadAudio, ...]
    extracted: int


@dataclass(frozen=True)
class _Clip:
    path: str
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True)
class _Extracted:
    sha256: str
    seconds: float


def families_folder() -> Path:
    """Return the folder of the stored features under `SER_HOME`."""
    return home() / "features"


def prepare(manifest: Manifest, max_bad: float = 0.05, progress: Progress | None = None) -> Prepared:
    """Make sure that every family of every clip is stored; return the manifest with durations and audio digests.

    Args:
        manifest: what to prepare; unusable files are set aside with their reason.
        max_bad: largest share of unusable files, in [0, 1].
        progress: called with (files done, files to do).

    Raises:
        CorpusError: more than `max_bad` of the files are unusable; lists them.
    """
    utterances = list(manifest)
    signatures = [_signature(utterance) for utterance in utterances]
    folders = [str(utterance.path.parent) for utterance in utterances]
    index = _Index(dict.fromkeys(folders))
    known = index.known
    stored = _stored_everywhere()
    todo = [i for i, key in enumerate(signatures) if key not in known or known[key].sha256 not in stored]
    set_aside: dict[int, BadAudio] = {}
    due = time.monotonic() + INDEX_EVERY_S
    for done, (rows, outcomes) in enumerate(_extract(utterances, todo), start=1):
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BadAudio):
                set_aside[row] = outcome
            else:
                index.add(folders[row], signatures[row], outcome)
        if (began := time.monotonic()) >= due:
            index.write()
            ended = time.monotonic()
            due = ended + max(INDEX_EVERY_S, (ended - began) / INDEX_SHARE)
        if progress:
            progress(min(done * SHARD_CLIPS, len(todo)), len(todo))
    index.write()
    _refuse_too_many(set_aside, len(utterances), max_bad)
    good = np.array([row for row in range(len(utterances)) if row not in set_aside], dtype=np.int64)
    found = [known[signatures[row]] for row in good]
    prepared = manifest.take(good).with_column("audio_sha256", [clip.sha256 for clip in found])
    prepared = prepared.with_column("duration_s", [clip.seconds for clip in found])
    return Prepared(prepared, tuple(set_aside.values()), len(todo) - len(set_aside))


def _signature(utterance: Utterance) -> str:
    """Return what identifies an unchanged file: path, size, modification time, segment, and how it is decoded."""
    try:
        stat = utterance.path.stat()
        file = f"{stat.st_size}:{stat.st_mtime_ns}"
    except OSError:
        file = "missing"
    return f"{utterance.path}|{file}|{utterance.start_s}|{utterance.end_s}|{DECODE_POLICY}"


class _Index:
    """What is known of files that were decoded before, a JSON file for each folder of audio.

    By folder, so that a corpus under other rules for labels, or joined to another, is known as well.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._of = {folder: _read_index(_index_path(folder)) for folder in folders}
        self._changed: set[str] = set()
        self.known = {key: value for index in self._of.values() for key, value in index.items()}

    def add(self, folder: str, signature: str, extracted: _Extracted) -> None:
        self.known[signature] = self._of[folder][signature] = extracted
        self._changed.add(folder)

    def write(self) -> None:
        for folder in sorted(self._changed):
            entries = {key: [value.sha256, value.seconds] for key, value in self._of[folder].items()}
            write_json(_index_path(folder), entries)
        self._changed.clear()


def _index_path(folder: str) -> Path:
    return home() / "index" / f"{digest_of(folder, 24)}.json"


def _read_index(path: Path) -> dict[str, _Extracted]:
    if not path.exists():
        return {}
    try:
        return {key: _Extracted(*value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # a cache: what cannot be read is decoded again


def _refuse_too_many(set_aside: dict[int, BadAudio], n_files: int, max_bad: float) -> None:
    if len(set_aside) > max_bad * n_files:
        listed = "; ".join(str(bad) for bad in list(set_aside.values())[:10])
        raise CorpusError(
            f"{len(set_aside)} of {n_files} files cannot be used, more than --max-bad {max_bad:g} allows: {listed}"
        )


def _extract(utterances: list[Utterance], rows: list[int]) -> Iterable[tuple[list[int], list[_Extracted | BadAudio]]]:
    chunks = [rows[first : first + SHARD_CLIPS] for first in range(0, len(rows), SHARD_CLIPS)]
    clips = [
        [_Clip(str(utterances[i].path), utterances[i].start_s, utterances[i].end_s) for i in chunk] for chunk in chunks
    ]
    if len(rows) < POOL_PAYS_FROM or slots() == 1:
        for chunk, part in zip(chunks, clips, strict=True):
            yield chunk, extract_shard(part, families_folder())
        return
    with ProcessPoolExecutor(
        slots(), mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = {
            pool.submit(extract_shard, part, families_folder()): chunk
            for chunk, part in zip(chunks, clips, strict=True)
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def extract_shard(clips: Sequence[_Clip], folder: Path) -> list[_Extracted | BadAudio]:
    """Decode some clips and write one shard of each family; return a digest or a refusal for each clip."""
    outcomes: list[_Extracted | BadAudio] = []
    features: dict[str, list[NDArray[np.float32]]] = {name: [] for name in FEATURE_SETS}
    for clip in clips:
        try:
            audio = read_audio(Path(clip.path), clip.start_s, clip.end_s)
        except BadAudio as bad:
            outcomes.append(bad)
            continue
        for name, values in compute(audio.waveform, FEATURE_SETS, FEATURE_SETS).items():
            features[name].append(values)
        outcomes.append(_Extracted(audio.sha256, audio.seconds))
    hashes = [outcome.sha256 for outcome in outcomes if isinstance(outcome, _Extracted)]
    if hashes:
        for name, family in FEATURE_SETS.items():
            _write_shard(folder / family_key(name, family), hashes, features[name])
    return outcomes


def _write_shard(folder: Path, hashes: list[str], features: list[NDArray[np.float32]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = uuid.uuid4().hex
    data, sums = folder / f"{stem}.npy", folder / f"{stem}.sums.npy"
    np.save(data, np.concatenate(features))
    wide = [values.astype(np.float64) for values in features]
    np.save(sums, np.stack([[values.sum(axis=0), (values**2).sum(axis=0)] for values in wide]))
    entry: dict[str, object] = {
        "hashes": hashes,
        "lengths": [len(values) for values in features],
        "sha256": sha256_of(data),
    }
    entry["sums_sha256"] = sha256_of(sums)
    write_json(folder / f"{stem}.json", entry)


def _shards(name: str) -> list[Shard]:
    folder = families_folder() / family_key(name, FEATURE_SETS[name])
    shards = []
    for path in sorted(folder.glob("[!.]*.json")):  # a name with a dot is being written, or was when a kill came
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # a cache: what cannot be read is extracted again
        digests = entry["sha256"], entry.get("sums_sha256", "")
        shards.append(Shard(path.with_suffix(".npy"), tuple(entry["hashes"]), tuple(entry["lengths"]), *digests))
    return shards


def _stored_everywhere() -> set[str]:
    """Return the hashes of the clips that every family holds; a kill between two families leaves some in one only."""
    held = [{digest for shard in _shards(name) for digest in shard.hashes} for name in FEATURE_SETS]
    return set.intersection(*held)


def verify(hashes: Iterable[str], names: Iterable[str]) -> None:
    """Compare the stored features of these clips with their digests.

    Raises:
        WorkFailed: a shard was altered; it is removed, so that the next command extracts it again.
    """
    wanted = set(hashes)
    shards = [shard for name in names for shard in _shards(name) if not wanted.isdisjoint(shard.hashes)]
    damaged = [shard for shard in shards if not shard.is_whole]
    for shard in damaged:
        for path in (shard.path.with_suffix(".json"), shard.path, shard.sums_path):  # the JSON first: then it is absent
            path.unlink(missing_ok=True)
    if damaged:
        open_family.cache_clear()  # may hold what was damaged
        raise WorkFailed(
            f"{len(damaged)} stored feature files were damaged (first: {damaged[0].path}) and have been dropped; "
            "run the command again"
        )


class StoredFamily:
    """One family of some clips, memory-mapped. Clips are numbered in the order of `hashes`."""

    def __init__(self, name: str, hashes: Sequence[str]) -> None:
        places: dict[str, tuple[int, int, int, int]] = {}
        wanted = set(hashes)
        self._arrays: list[NDArray[np.float32]] = []
        sums: list[NDArray[np.float64]] = []
        for shard in _shards(name):
            if wanted.isdisjoint(shard.hashes):
                continue
            offsets = np.cumsum([0, *shard.lengths])
            for position, digest in enumerate(shard.hashes):
                places[digest] = (len(self._arrays), position, int(offsets[position]), shard.lengths[position])
            self._arrays.append(np.load(shard.path, mmap_mode="r", allow_pickle=False))
            sums.append(np.load(shard.sums_path, allow_pickle=False))
        missing = wanted - places.keys()
        if missing:
            raise WorkFailed(f"{len(missing)} clips have no stored {name}; run the command again to extract them")
        self._places = [places[digest] for digest in hashes]
        self.lengths = np.array([place[3] for place in self._places], dtype=np.int64)
        self.sums = np.stack([sums[place[0]][place[1]] for place in self._places])

    def clip(self, number: int) -> NDArray[np.float32]:
        """Return the features `(n_frames, n_features)` of a clip, without copying."""
        shard, _, first, length = self._places[number]
        return self._arrays[shard][first : first + length]


class ViewedFeatures:
    """The clips of `hashes` through a view."""

    def __init__(self, view: FeatureView, hashes: tuple[str, ...]) -> None:
        self.view = view
        self._families = {name: open_family(name, hashes) for name in view.sets}
        full = self._families[view.sets[0]].lengths
        self.lengths = np.minimum(full, view.max_frames)  # frames of each clip, (n_clips,)

    def normaliser(self, clips: NDArray[np.int64]) -> Normaliser:
        """Fit the normaliser on whole clips `(n_clips,)` from their stored sums; reads no features."""
        sums = [self._families[name].sums[clips].sum(axis=0)[:, : self.view.width(name)] for name in self.view.sets]
        totals = np.concatenate(sums, axis=1)
        n_frames = int(self._families[self.view.sets[0]].lengths[clips].sum())
        return Normaliser.from_sums(n_frames, totals[0], totals[1])

    def batch(self, clips: NDArray[np.int64], normaliser: Normaliser) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return normalised features `(n_clips, n_frames, n_features)`, 0 past a clip's end, and lengths."""
        lengths = self.lengths[clips]
        padded = np.zeros((len(clips), int(lengths.max()), self.view.n_features), dtype=np.float32)
        first = 0
        for name in self.view.sets:
            family, columns = self._families[name], slice(first, first + self.view.width(name))
            mean, scale = normaliser.mean[columns], 1 / normaliser.std[columns]
            for row, clip in enumerate(clips):
                frames = self.view.frames(int(family.lengths[clip]))
                target = padded[row, : frames.stop - frames.start, columns]
                np.subtract(family.clip(int(clip))[frames, : len(mean)], mean, out=target)
                target *= scale
            first = columns.stop
        return padded, lengths


@lru_cache(maxsize=16)
def open_family(name: str, hashes: tuple[str, ...]) -> StoredFamily:
    """Open one family of these clips; a process that runs many trials opens it once."""
    return StoredFamily(name, hashes)
