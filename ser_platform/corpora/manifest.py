"""The validated table of a corpus: an utterance a row, stored as Parquet, with a fingerprint of its content.

A million rows are ordinary: everything here works on whole Arrow columns, and only `__iter__` makes objects of rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ser_platform.emotions import EMOTIONS, label_set
from ser_platform.errors import CorpusError
from ser_platform.files import replacing

TEXT, REAL = pa.string(), pa.float64()
SCHEMA = pa.schema(
    [pa.field(name, TEXT, nullable=False) for name in ("id", "path", "corpus", "speaker", "emotion")]
    + [pa.field("start_s", REAL), pa.field("end_s", REAL)]
    + [pa.field(name, TEXT) for name in ("sex", "age", "language", "intensity", "sentence", "repetition")]
    + [pa.field(name, TEXT) for name in ("dialogue", "session", "part", "votes")]
    + [pa.field("duration_s", REAL), pa.field("audio_sha256", TEXT)]
)
REQUIRED = tuple(field.name for field in SCHEMA if not field.nullable)
# What an experiment depends on. Paths are left out: a copy elsewhere is the same corpus.
FINGERPRINT_COLUMNS = ("id", "corpus", "speaker", "emotion", "start_s", "end_s", "sex", "audio_sha256")
MAX_HASHED_VALUES = 100_000  # values hashed at once
UNKNOWN = "unknown"  # the speaker of a corpus that names none; no split by speaker can be made of it


def speaker_name(corpus: str, speaker: str | None) -> str:
    """Return `corpus-speaker`, so that the speakers of two corpora stay distinct."""
    return f"{corpus}-{speaker or UNKNOWN}"


@dataclass(frozen=True)
class Utterance:
    """One clip, or the part of a file from `start_s` to `end_s` (seconds). `speaker` is made by `speaker_name`.

    `part` is train, dev or test where the publisher says so; `votes` is raters' votes as the corpus writes them.
    """

    id: str
    path: Path
    corpus: str
    speaker: str
    emotion: str
    start_s: float | None = None
    end_s: float | None = None
    sex: str | None = None
    age: str | None = None
    language: str | None = None
    intensity: str | None = None
    sentence: str | None = None
    repetition: str | None = None
    dialogue: str | None = None
    session: str | None = None
    part: str | None = None
    votes: str | None = None
    duration_s: float | None = None
    audio_sha256: str | None = None


FIELDS = tuple(field.name for field in fields(Utterance))


class Manifest:
    """A validated, ordered set of utterances. Immutable; every change returns a new one."""

    def __init__(self, table: pa.Table) -> None:
        """Take a table with the columns of `SCHEMA`; optional ones may be missing.

        Raises:
            CorpusError: a required column or value is missing, an emotion is unknown, or an id occurs twice.
        """
        self.table = _validate(table)

    @classmethod
    def from_utterances(cls, utterances: Iterable[Utterance]) -> "Manifest":
        """Build a manifest from utterances, in their order."""
        rows = list(utterances)
        columns = {name: [getattr(row, name) for row in rows] for name in FIELDS}
        columns["path"] = [str(path) for path in columns["path"]]
        return cls(pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in FIELDS])))

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a Parquet or CSV manifest."""
        if path.suffix == ".csv":
            # A quoted empty cell is a null; "NA" and "null" are words that a speaker or a sentence may be called.
            types = pyarrow.csv.ConvertOptions(column_types=SCHEMA, null_values=[""], strings_can_be_null=True)
            return cls(pyarrow.csv.read_csv(path, convert_options=types))
        return cls(pyarrow.parquet.read_table(path))

    @classmethod
    def join(cls, manifests: Sequence["Manifest"]) -> "Manifest":
        """Return the utterances of several corpora one after another, ids preceded by the corpus's name.

        Raises:
            CorpusError: the same corpus twice.
        """
        tables = []
        for manifest in manifests:
            ids = pc.binary_join_element_wise(manifest.table.column("corpus"), manifest.table.column("id"), "/")
            tables.append(manifest.table.set_column(0, SCHEMA.field("id"), ids))
        return cls(pa.concat_tables(tables))

    def write(self, path: Path) -> None:
        """Write as CSV or Parquet, by the suffix of `path`; a kill leaves the old file whole."""
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                pyarrow.csv.write_csv(self.table, temporary)
            else:
                pyarrow.parquet.write_table(self.table, temporary)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Utterance]:
        for batch in self.table.select(FIELDS).to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                yield Utterance(**(row | {"path": Path(row["path"])}))

    def column(self, name: str) -> NDArray[Any]:
        """Return one column as a NumPy array `(n_utterances,)`."""
        column: NDArray[Any] = self.table.column(name).to_numpy(zero_copy_only=False)
        return column

    def encode_column(self, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return a text column as codes `(n_utterances,)` into its sorted values; -1 where it is empty."""
        if name not in self._codes:
            column = self.table.column(name)
            values = pc.unique(column).drop_null().sort()
            codes = pc.fill_null(pc.index_in(column, value_set=values, skip_nulls=True), -1).to_numpy()
            self._codes[name] = codes.astype(np.int64), tuple(values.to_pylist())
        return self._codes[name]

    @cached_property
    def _codes(self) -> dict[str, tuple[NDArray[np.int64], tuple[str, ...]]]:
        return {}

    def cross_tabulate(self, first: str, second: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Count utterances (of `rows`, or all) by two text columns, `(values of first, values of second)`.

        Values are those of the whole manifest, in the order of `encode_column`.
        """
        (ones, one_names), (others, other_names) = self.encode_column(first), self.encode_column(second)
        if rows is not None:
            ones, others = ones[rows], others[rows]
        known = (ones >= 0) & (others >= 0)
        pairs = ones[known] * len(other_names) + others[known]
        counted = np.bincount(pairs, minlength=len(one_names) * len(other_names))
        return counted.reshape(len(one_names), len(other_names)).astype(np.int64)

    def find_present_values(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which values of a text column occur in `rows`, `(values,)` in the order of `encode_column`."""
        codes, values = self.encode_column(name)
        return np.bincount(codes[rows] + 1, minlength=len(values) + 1)[1:] > 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions that occur, in canonical order."""
        return label_set(self.encode_column("emotion")[1])

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, sorted."""
        return self.encode_column("speaker")[1]

    @property
    def corpora(self) -> tuple[str, ...]:
        """The corpora, sorted."""
        return self.encode_column("corpus")[1]

    @property
    def corpora_without_speakers(self) -> tuple[str, ...]:
        """The corpora that do not say who speaks."""
        unknown_names = {speaker_name(corpus, None): corpus for corpus in self.corpora}
        return tuple(unknown_names[speaker] for speaker in self.speakers if speaker in unknown_names)

    def encode_targets(self, labels: tuple[str, ...]) -> NDArray[np.int64]:
        """Return class indices into `labels`, `(n_utterances,)`.

        Raises:
            CorpusError: an emotion is not among `labels`.
        """
        foreign = set(self.labels).difference(labels)
        if foreign:
            raise CorpusError(f"emotions {sorted(foreign)} are not among the labels {', '.join(labels)}")
        indices: NDArray[np.int64] = pc.index_in(self.table.column("emotion"), pa.array(labels)).to_numpy()
        return indices.astype(np.int64)

    def take(self, indices: NDArray[np.int64]) -> "Manifest":
        """Return the utterances at `indices`, in that order; each once."""
        return self._from_validated(self.table.take(pa.array(indices)))

    def relabel(self, mapping: Mapping[str, str | None]) -> "Manifest":
        """Return the utterances with their emotions renamed; those mapped to None are dropped.

        Raises:
            CorpusError: none is left.
        """
        codes, names = self.encode_column("emotion")
        targets = np.array([mapping[name] for name in names], dtype=object)[codes]
        kept = np.flatnonzero(targets != None)  # noqa: E711 - elementwise
        if not len(kept):
            raise CorpusError(f"no clip is left of {', '.join(names)} after the rules for labels")
        return self.take(kept).with_column("emotion", targets[kept])

    def with_column(self, name: str, values: Iterable[Any]) -> "Manifest":
        """Return a copy in which column `name` holds `values`."""
        index = self.table.schema.get_field_index(name)
        field = SCHEMA.field(name)
        items = values if isinstance(values, np.ndarray) else list(values)
        return Manifest(self.table.set_column(index, field, pa.array(items, field.type)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what an experiment depends on; neither paths nor the order of rows count."""
        table = self.table.select(FINGERPRINT_COLUMNS).sort_by("id")
        digest = hashlib.sha256()
        for name in FINGERPRINT_COLUMNS:
            digest.update(name.encode())
            for text in _separate_values(table.column(name)):
                digest.update(text)
        return digest.hexdigest()

    @classmethod
    def _from_validated(cls, table: pa.Table) -> "Manifest":
        """Return the manifest of some rows of a validated table."""
        manifest = cls.__new__(cls)
        manifest.table = table
        return manifest


def _separate_values(column: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield the values as text, each followed by a unit separator, many at a time."""
    text = column.cast(TEXT).fill_null("\x00")
    for first in range(0, len(text), MAX_HASHED_VALUES):
        values = text.slice(first, MAX_HASHED_VALUES).combine_chunks()
        one_list = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
        yield pc.binary_join(one_list, "\x1f")[0].as_py().encode() + b"\x1f"


def _validate(table: pa.Table) -> pa.Table:
    for name in REQUIRED:
        if name not in table.column_names:
            raise CorpusError(f"manifest lacks the column {name!r}; required are {', '.join(REQUIRED)}")
    for field in SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    table = table.select(SCHEMA.names).cast(pa.schema([field.with_nullable(True) for field in SCHEMA]))
    for name in REQUIRED:
        if table.column(name).null_count or pc.any(pc.equal(table.column(name), "")).as_py():
            raise CorpusError(f"manifest has rows without {name!r}")
    unknown = set(pc.unique(table.column("emotion")).to_pylist()).difference(EMOTIONS)
    if unknown:
        raise CorpusError(f"unknown emotions {sorted(unknown)}; choose from {', '.join(EMOTIONS)}")
    ids = table.column("id")
    if pc.count_distinct(ids).as_py() < len(ids):
        repeated = [entry["values"] for entry in pc.value_counts(ids).to_pylist() if entry["counts"] > 1]
        raise CorpusError(f"utterance ids occur twice: {', '.join(repeated[:5])}")
    return table.cast(SCHEMA)
