"""The validated table of a corpus: one row per utterance, with a fingerprint of its content.

A manifest may have millions of rows: functions work on whole Arrow columns; only `__iter__` makes objects of rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ser_platform.emotions import EMOTIONS, label_set
from ser_platform.errors import CorpusError

TEXT, REAL = pa.string(), pa.float64()
# Optional columns of text, in the spelling of the corpus.
DETAILS = ("sex", "age", "language", "intensity", "sentence", "repetition", "dialogue", "session", "part", "votes")
SCHEMA = pa.schema(
    [pa.field(name, TEXT, nullable=False) for name in ("id", "path", "corpus", "speaker", "emotion")]
    + [pa.field("start_s", REAL), pa.field("end_s", REAL)]
    + [pa.field(name, TEXT) for name in DETAILS]
    + [pa.field("duration_s", REAL), pa.field("audio_sha256", TEXT)]
)
REQUIRED = tuple(field.name for field in SCHEMA if not field.nullable)
# The columns that an experiment depends on. Paths are left out: a copy in another folder is the same corpus.
FINGERPRINT_COLUMNS = ("id", "corpus", "speaker", "emotion", "start_s", "end_s", "sex", "audio_sha256")
MAX_HASHED_VALUES = 100_000  # values hashed at once
UNKNOWN = "unknown"  # the speaker of each clip of a corpus that names none; such a corpus cannot be split by speaker


def speaker_name(corpus: str, speaker: str | None) -> str:
    """Return `corpus-speaker`, so that the speakers of two corpora stay distinct."""
    return f"{corpus}-{speaker or UNKNOWN}"


@dataclass(frozen=True)
class Utterance:
    """One clip: a file, or the part of a file from `start_s` to `end_s` in seconds.

    `speaker` is a result of `speaker_name`; `part` is the publisher's train, dev or test; `votes` are the raters' votes
    in the spelling of the corpus.
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


class Manifest:
    """A validated, ordered, immutable table of utterances."""

    def __init__(self, table: pa.Table) -> None:
        """Validate a table with the columns of `SCHEMA`; optional columns may be missing.

        Raises:
            CorpusError: a required column or value is missing, an emotion is unknown, or an id occurs twice.
        """
        self.table = _validate(table)

    @classmethod
    def from_utterances(cls, utterances: Iterable[Utterance]) -> "Manifest":
        """Return the manifest of `utterances`, in the same order."""
        rows = list(utterances)
        columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
        columns["path"] = [str(path) for path in columns["path"]]
        return cls(pa.table(columns, schema=SCHEMA))

    @classmethod
    def join(cls, manifests: Sequence["Manifest"]) -> "Manifest":
        """Return the utterances of several corpora in one manifest, with the ids `corpus/id`.

        Raises:
            CorpusError: two manifests are of the same corpus.
        """
        tables = []
        for manifest in manifests:
            ids = pc.binary_join_element_wise(manifest.table.column("corpus"), manifest.table.column("id"), "/")
            tables.append(manifest.table.set_column(0, SCHEMA.field("id"), ids))
        return cls(pa.concat_tables(tables))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Utterance]:
        for batch in self.table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                yield Utterance(**(row | {"path": Path(row["path"])}))

    def column(self, name: str) -> NDArray[Any]:
        """Return one column as a NumPy array `(n_utterances,)`."""
        column: NDArray[Any] = self.table.column(name).to_numpy(zero_copy_only=False)
        return column

    def encode_column(self, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return a text column as codes `(n_utterances,)`, -1 where empty, and the sorted values that they index."""
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
        """Return the number of utterances for each pair of values of two text columns, `(n_first, n_second)`.

        Only `rows` are counted where they are given. The values are those of the whole manifest, in the order of
        `encode_column`.
        """
        (ones, one_names), (others, other_names) = self.encode_column(first), self.encode_column(second)
        if rows is not None:
            ones, others = ones[rows], others[rows]
        known = (ones >= 0) & (others >= 0)
        pairs = ones[known] * len(other_names) + others[known]
        counted = np.bincount(pairs, minlength=len(one_names) * len(other_names))
        return counted.reshape(len(one_names), len(other_names)).astype(np.int64)

    def find_present_values(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each value of a text column is in `rows`, `(n_values,)` in the order of `encode_column`."""
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
        """The corpora without speakers, sorted."""
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
        """Return the utterances at `indices`, in that order. No index may be repeated."""
        manifest = Manifest.__new__(Manifest)  # rows of a validated table need no second validation
        manifest.table = self.table.take(pa.array(indices))
        return manifest

    def relabel(self, mapping: Mapping[str, str | None]) -> "Manifest":
        """Return the utterances with renamed emotions, without those mapped to None.

        Raises:
            CorpusError: no utterance is left.
        """
        codes, names = self.encode_column("emotion")
        targets = np.array([mapping[name] for name in names], dtype=object)[codes]
        kept = np.flatnonzero(targets != None)  # noqa: E711 - elementwise
        if not len(kept):
            raise CorpusError(f"no clip is left of {', '.join(names)} after the rules for labels")
        return self.take(kept).with_column("emotion", targets[kept])

    def with_column(self, name: str, values: Iterable[Any]) -> "Manifest":
        """Return a copy whose column `name` is `values`."""
        index = self.table.schema.get_field_index(name)
        field = SCHEMA.field(name)
        items = values if isinstance(values, np.ndarray) else list(values)
        return Manifest(self.table.set_column(index, field, pa.array(items, field.type)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of `FINGERPRINT_COLUMNS`, whatever the order of the rows."""
        table = self.table.select(FINGERPRINT_COLUMNS).sort_by("id")
        digest = hashlib.sha256()
        for name in FINGERPRINT_COLUMNS:
            digest.update(name.encode())
            for text in _encode_values(table.column(name)):
                digest.update(text)
        return digest.hexdigest()


def _encode_values(column: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield UTF-8 blocks of the values as text, each value followed by a unit separator."""
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
