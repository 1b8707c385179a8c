"""A shard: the stored features of some clips of one family, in three files.

- `X.npy` contains the rows of all clips, concatenated, `(n_rows, n_features)`.
- `X.clips.npy` contains one entry per clip, in the same order: digest of the audio, number of rows, CRC-32 of the rows,
  and their sum and sum of squares (left out where every clip is one row).
- `X.json` describes them, with size, modification time and SHA-256 of both. It is written last and renamed into place:
  files without it are no shard.

Opening a shard checks the format, the sizes and all of `X.clips.npy`; it checks all of `X.npy` only where the
modification time differs from the recorded one. The CRC of a clip is checked when a process first reads the clip. So
opening reads no features, and no altered byte reaches a model.
"""

import contextlib
import hashlib
import io
import json
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ser_platform.errors import WorkFailed
from ser_platform.files import digest_of, sha256_of, write_json
from ser_platform.settings.features import FeatureDtype

FORMAT_VERSION = 2  # raise it when the files change
DTYPES = get_args(FeatureDtype)
DIGEST_BYTES = 32  # bytes of a SHA-256

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class StoredClip:
    """One clip's features as stored, `(n_rows, n_features)`, with their CRC-32 and, where known, their sums."""

    sha256: bytes
    values: Features
    crc: int
    sums: NDArray[np.float64] | None = None

    @classmethod
    def from_features(cls, sha256: bytes, features: NDArray[np.float32], dtype: str) -> "StoredClip":
        """Convert features to the stored dtype.

        Raises:
            WorkFailed: a number is too large for the dtype.
        """
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(features, dtype=dtype)
        if values.dtype != features.dtype and not np.array_equal(np.isfinite(values), np.isfinite(features)):
            raise WorkFailed(f"features up to {np.abs(features).max():.3g} do not fit {dtype}; use float32")
        return cls(sha256, values, zlib.crc32(values.data))

    @property
    def is_intact(self) -> bool:
        """Whether the rows have the recorded CRC."""
        return zlib.crc32(self.values.data) == self.crc


def compute_sums(values: Features) -> NDArray[np.float64]:
    """Return sums and sums of squares over rows, `(2, n_features)`."""
    wide = values.astype(np.float64)
    return np.stack([wide.sum(axis=0), (wide**2).sum(axis=0)])


@dataclass(frozen=True)
class FileStamp:
    """Size, modification time and digest of a file as written."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def from_file(cls, path: Path, sha256: str) -> "FileStamp":
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, sha256)


@dataclass(frozen=True)
class ShardRecord:
    """The content of a shard's JSON. `about` describes the family."""

    format: int
    about: dict[str, Any]
    dtype: str
    n_rows: int
    n_features: int
    n_clips: int
    data: FileStamp
    clips: FileStamp

    @classmethod
    def read(cls, path: Path) -> "ShardRecord | None":
        """Return the record in a file, None where it is damaged or of another format."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["record"]["format"] != FORMAT_VERSION or digest_of(content["record"]) != content["sha256"]:
                return None
            stamps = {name: FileStamp(**content["record"][name]) for name in ("data", "clips")}
            return cls(**content["record"] | stamps)
        except (OSError, ValueError, TypeError, KeyError):
            return None  # a cache: unreadable shards are extracted again

    def write(self, path: Path) -> None:
        """Write the record with its digest."""
        content = asdict(self)
        write_json(path, {"record": content, "sha256": digest_of(content)})


class Shard:
    """A shard with a readable record. `path` is its JSON file."""

    def __init__(self, path: Path, record: ShardRecord) -> None:
        self.path, self.record = path, record

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The files, the JSON first."""
        return self.path, self.path.with_suffix(".npy"), self.path.with_suffix(".clips.npy")

    @property
    def n_bytes(self) -> int:
        return self.record.data.size + self.record.clips.size

    @cached_property
    def table(self) -> NDArray[Any]:
        """One entry per clip: `sha256`, `rows`, `crc`, and `sums` where clips have several rows."""
        table: NDArray[Any] = np.load(self.paths[2], allow_pickle=False)
        return table

    @cached_property
    def hashes(self) -> list[bytes]:
        return split_digests(self.table["sha256"].tobytes())

    @property
    def sizes(self) -> dict[bytes, int]:
        """Bytes of each clip's rows."""
        row = self.record.n_features * np.dtype(self.record.dtype).itemsize
        return dict(zip(self.hashes, (self.table["rows"] * row).tolist(), strict=True))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First row of each clip, then the number of all rows, `(n_clips + 1,)`."""
        return np.concatenate([[0], np.cumsum(self.table["rows"])])

    @cached_property
    def data(self) -> Features:
        """All rows `(n_rows, n_features)`, memory-mapped."""
        shape = (self.record.n_rows, self.record.n_features)
        head = self.record.data.size - int(np.prod(shape)) * np.dtype(self.record.dtype).itemsize
        # Not np.load, which would trust a damaged header.
        return np.memmap(self.paths[1], self.record.dtype, "r", head, shape).view(np.ndarray)

    def read_clip(self, position: int) -> StoredClip:
        """Return a clip without copying its rows."""
        entry = self.table[position]
        rows = self.data[self.offsets[position] : self.offsets[position + 1]]
        sums = entry["sums"] if "sums" in (self.table.dtype.names or ()) else None
        return StoredClip(self.hashes[position], rows, int(entry["crc"]), sums)

    def is_intact(self, thorough: bool = False) -> bool:
        """Return whether the files are as written; `thorough` reads all of them."""
        _, data, clips = self.paths
        try:
            now, was = data.stat(), self.record.data
            if now.st_size != was.size or sha256_of(clips) != self.record.clips.sha256:
                return False
            if now.st_mtime_ns == was.mtime_ns and not thorough:
                return True
            return sha256_of(data) == was.sha256
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the files; processes that have them open can still read them."""
        for path in self.paths:
            path.unlink(missing_ok=True)

    def refresh(self) -> "Shard":
        """Record a new modification time of intact data, as after a copy, so that the data is not read again."""
        if self.paths[1].stat().st_mtime_ns == self.record.data.mtime_ns:
            return self
        record = replace(self.record, data=FileStamp.from_file(self.paths[1], self.record.data.sha256))
        with contextlib.suppress(OSError):  # a read-only store
            record.write(self.path)
        return Shard(self.path, record)


def split_digests(joined: bytes) -> list[bytes]:
    """Return the digests in their concatenation."""
    return [joined[first : first + DIGEST_BYTES] for first in range(0, len(joined), DIGEST_BYTES)]


def list_recorded_shards(folder: Path) -> list[Shard]:
    """Return the shards of a folder with readable records, intact or not."""
    records = [(path, ShardRecord.read(path)) for path in sorted(folder.glob("[!.]*.json"))]
    return [Shard(path, record) for path, record in records if record is not None]


def list_intact_shards(folder: Path) -> list[Shard]:
    """Return the intact shards of a folder, those with most clips first."""
    intact = [shard.refresh() for shard in list_recorded_shards(folder) if shard.is_intact()]
    return sorted(intact, key=lambda shard: -shard.record.n_clips)


def write_shard(folder: Path, about: dict[str, Any], clips: Sequence[StoredClip]) -> Shard:
    """Write clips of one family as a shard; remove its files where writing fails, as on a full disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.json"
    dtype, n_features = clips[0].values.dtype, clips[0].values.shape[1]
    table = _make_table(clips, n_features)
    n_rows = int(table["rows"].sum())
    data, index = path.with_suffix(".npy"), path.with_suffix(".clips.npy")
    try:
        stamps = (
            _write_array(data, dtype, (n_rows, n_features), (clip.values for clip in clips)),
            _write_array(index, table.dtype, table.shape, [table]),
        )
        record = ShardRecord(FORMAT_VERSION, about, dtype.name, n_rows, n_features, len(clips), *stamps)
        record.write(path)
    except BaseException:
        for written in (path, data, index):
            written.unlink(missing_ok=True)
        raise
    return Shard(path, record)


def _make_table(clips: Sequence[StoredClip], n_features: int) -> NDArray[Any]:
    """Return the entries of a shard, without sums where every clip is one row, which is its own sum."""
    fields: list[Any] = [("sha256", f"V{DIGEST_BYTES}"), ("rows", "<i8"), ("crc", "<u4")]
    has_sums = any(len(clip.values) != 1 for clip in clips)
    table = np.zeros(len(clips), [*fields, ("sums", "<f8", (2, n_features))] if has_sums else fields)
    for entry, clip in zip(table, clips, strict=True):
        entry["sha256"], entry["rows"], entry["crc"] = clip.sha256, len(clip.values), clip.crc
        if has_sums:
            entry["sums"] = compute_sums(clip.values) if clip.sums is None else clip.sums
    return table


def _write_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> FileStamp:
    """Write an .npy file block by block; unlike `ndarray.tofile`, raise an error on a full disk."""
    head, digest = io.BytesIO(), hashlib.sha256()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(head, description)
    with path.open("wb") as file:
        for block in (np.frombuffer(head.getvalue(), np.uint8), *blocks):
            content = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
            file.write(content)
            digest.update(content)
    return FileStamp.from_file(path, digest.hexdigest())
