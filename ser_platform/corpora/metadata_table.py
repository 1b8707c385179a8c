"""Tables of metadata beside recordings: `metadata.csv`, `.jsonl` or `.parquet`, as in Hugging Face's audiofolder.

Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.errors import CorpusError

SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class MetadataTable:
    """A table whose rows map column names to cells."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    def require_column(self, ours: str, theirs: str) -> str:
        """Return `theirs`, the table's name of our column `ours`.

        Raises:
            CorpusError: the table has no such column.
        """
        if theirs not in self.columns:
            raise CorpusError(
                f"{self.path} has no column {theirs!r} for {ours}; it has {', '.join(self.columns) or 'none'} "
                f"(name another with --column {ours}=NAME)"
            )
        return theirs

    def find_column(self, ours: str, others: Collection[str], taken: Collection[str]) -> str | None:
        """Return the table's name of our column `ours`, None where it has none.

        It is `ours` itself, else the only column whose name is, in any case, `ours` or one of the `others`; columns in
        `taken` are not considered.

        Raises:
            CorpusError: there are several.
        """
        if ours in self.columns and ours not in taken:
            return ours
        names = {ours, *others}
        found = [name for name in self.columns if name.lower() in names and name not in taken]
        if len(found) > 1:
            raise CorpusError(
                f"{self.path} has the columns {' and '.join(found)} for {ours}; choose one with --column {ours}=NAME"
            )
        return found[0] if found else None


def find_metadata_tables(root: Path) -> list[Path]:
    """Return the paths of the tables under `root`, sorted.

    Raises:
        CorpusError: one folder contains two tables.
    """
    found = [path for path in list_audio_files(root, SUFFIXES) if path.stem == "metadata"]
    for folder, n in Counter(path.parent for path in found).items():
        if n > 1:
            names = " and ".join(path.name for path in found if path.parent == folder)
            raise CorpusError(f"{folder} contains {names}; keep one of them")
    return found


def read_table(path: Path) -> MetadataTable:
    """Return a table, without the nested, binary and temporal columns of a Parquet file.

    Raises:
        CorpusError: the table cannot be read.
    """
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        columns, rows = read(path)
    except (OSError, ValueError, OverflowError, csv.Error, pa.ArrowException) as error:
        raise CorpusError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return MetadataTable(path, tuple(columns), rows)


def format_cell(value: Any) -> str | None:
    """Return a cell as text without surrounding spaces, None where it is empty; a whole number has no decimals."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _read_csv(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or ()]
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise ValueError(f"the column {twice[0]!r} occurs twice")
        reader.fieldnames = columns
        rows = list(reader)
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():  # one comma too many or too few shifts the cells after it
            raise ValueError(f"row {number} does not have {len(columns)} cells, the number of columns")
    return columns, rows


def _read_jsonl(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            json.dumps(
                row, ensure_ascii=False
            ).encode()  # raises a ValueError for "\ud800", which JSON allows and UTF-8 does not
            rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _read_parquet(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    schema = pa.parquet.read_schema(path)
    unsupported = (pa.types.is_nested, pa.types.is_binary, pa.types.is_temporal)  # neither text nor numbers
    columns = [field.name for field in schema if not any(matches(field.type) for matches in unsupported)]
    return columns, pa.parquet.read_table(path, columns=columns).to_pylist()
