"""The validated table of a corpus: an utterance a row, stored as Parquet, with a fingerprint of its content."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
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
    + [pa.field(name, TEXT) for name in ("sex", "language", "intensity", "sentence", "repetition")]
    + [pa.field(name, TEXT) for name in ("dialogue", "session", "votes")]
    + [pa.field("duration_s", REAL), pa.field("audio_sha256", TEXT)]
)
REQUIRED = tuple(field.name for field in SCHEMA if not field.nullable)
# What an experiment depends on. Paths are left out: a copy elsewhere is the same corpus.
FINGERPRINTED = ("id", "corpus", "speaker", "emotion", "start_s", "end_s", "sex", "audio_sha256")


@dataclass(frozen=True)
class Utterance:
    """One clip. `speaker` is `corpus-id`, so that speakers of two corpora stay distinct; times are in seconds."""

    id: str
    path: Path
    corpus: str
    speaker: str
    emotion: str
    start_s: float | None = None
    end_s: float | None = None
    sex: str | None = None
    language: str | None = None
    intensity: str | None = None
    sentence: str | None = None
    repetition: str | None = None
    dialogue: str | None = None
    session: str | None = None
    votes: str | None = None
    duration_s: float | None = None
    audio_sha256: str | None = None


class Manifest:
    """A validated, ordered set of utterances. Immutable; every change returns a new one."""

    def __init__(self, table: pa.Table) -> None:
        """Take a table with the columns of `SCHEMA`; optional ones may be missing.

        Raises:
            CorpusError: a required column or value is missing, an emotion is unknown, or an id occurs twice.
        """
        self.table = _validated(table)

    @classmethod
    def from_utterances(cls, utterances: Iterable[Utterance]) -> "Manifest":
        """Build a manifest from utterances, in their order."""
        rows = [asdict(utterance) | {"path": str(utterance.path)} for utterance in utterances]
        return cls(pa.Table.from_pylist(rows, schema=SCHEMA))

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a Parquet or CSV manifest."""
        if path.suffix == ".csv":
            types = pyarrow.csv.ConvertOptions(column_types=SCHEMA, strings_can_be_null=True)
            return cls(pyarrow.csv.read_csv(path, convert_options=types))
        return cls(pyarrow.parquet.read_table(path))

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
        names = [field.name for field in fields(Utterance)]
        for row in self.table.select(names).to_pylist():
            yield Utterance(**(row | {"path": Path(row["path"])}))

    def column(self, name: str) -> NDArray[Any]:
        """Return one column as a NumPy array `(n_utterances,)`."""
        return self.table.column(name).to_numpy(zero_copy_only=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions that occur, in canonical order."""
        return label_set(self.table.column("emotion").unique().to_pylist())

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, sorted."""
        return tuple(sorted(self.table.column("speaker").unique().to_pylist()))

    def targets(self, labels: tuple[str, ...]) -> NDArray[np.int64]:
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
        """Return the utterances at `indices`, in that order."""
        return Manifest(self.table.take(pa.array(indices)))

    def with_column(self, name: str, values: Iterable[Any]) -> "Manifest":
        """Return a copy in which column `name` holds `values`."""
        index = self.table.schema.get_field_index(name)
        field = SCHEMA.field(name)
        return Manifest(self.table.set_column(index, field, pa.array(list(values), field.type)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what an experiment depends on; neither paths nor the order of rows count."""
        table = self.table.select(FINGERPRINTED).sort_by("id")
        digest = hashlib.sha256()
        for name in FINGERPRINTED:
            digest.update(name.encode())
            for value in table.column(name).cast(TEXT).fill_null("\x00").to_pylist():
                digest.update(value.encode() + b"\x1f")
        return digest.hexdigest()


def _validated(table: pa.Table) -> pa.Table:
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
    unknown = set(table.column("emotion").unique().to_pylist()).difference(EMOTIONS)
    if unknown:
        raise CorpusError(f"unknown emotions {sorted(unknown)}; choose from {', '.join(EMOTIONS)}")
    counts = pc.value_counts(table.column("id"))
    repeated = [entry["values"] for entry in counts.to_pylist() if entry["counts"] > 1]
    if repeated:
        raise CorpusError(f"utterance ids occur twice: {', '.join(repeated[:5])}")
    return table.cast(SCHEMA)
