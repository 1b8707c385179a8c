"""Tables of metadata beside recordings: `metadata.csv`, `.jsonl` or `.parquet`, as Hugging Face's audiofolder has them.

Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
    """A table: its rows by column name, as they are stored."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    def require_column(self, ours: str, theirs: str) -> str:
        """Return `theirs`, the name of the column that holds our column `ours`.

        Raises:
            CorpusError: there is none of that name.
        """
        if theirs not in self.columns:
            raise CorpusError(
                f"{self.path} has no column {theirs!r} for {ours}; it has {', '.join(self.columns) or 'none'} "
                f"(say which it is with --column {ours}=NAME)"
            )
        return theirs


def find_metadata_tables(root: Path) -> list[Path]:
    """Return the tables under `root`, sorted.

    Raises:
        CorpusError: two lie in the same folder.
    """
    found = [path for path in list_audio_files(root, SUFFIXES) if path.stem == "metadata"]
    for folder, n in Counter(path.parent for path in found).items():
        if n > 1:
            names = " and ".join(path.name for path in found if path.parent == folder)
            raise CorpusError(f"{folder} holds {names}; keep the one that counts")
    return found


def read_table(path: Path) -> MetadataTable:
    """Read a table; cells with samples in them (Parquet) are not.

    Raises:
        CorpusError: it cannot be read.
    """
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[path.suffix.lower()]
    try:
        columns, rows = read(path)
    except (OSError, ValueError, OverflowError, csv.Error, pa.ArrowException) as error:
        raise CorpusError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return MetadataTable(path, tuple(columns), rows)


def format_cell(value: Any) -> str | None:
    """Return a cell as text without spaces around it; None where it is empty. Whole numbers have no decimals."""
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
            raise ValueError(f"the column {twice[0]!r} is there twice")
        reader.fieldnames = columns
        rows = list(reader)
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():  # a comma too many or too few moves every cell behind it
            raise ValueError(f"row {number} has not {len(columns)} cells, as the first line has")
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
                raise ValueError(f"line {number} is no JSON object")
            json.dumps(row, ensure_ascii=False).encode()  # "\ud800" is JSON, but no text: raises a ValueError
            rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _read_parquet(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    schema = pa.parquet.read_schema(path)
    odd = (pa.types.is_nested, pa.types.is_binary, pa.types.is_temporal)  # none is a word or a number
    held = [field.name for field in schema if not any(is_odd(field.type) for is_odd in odd)]
    return held, pa.parquet.read_table(path, columns=held).to_pylist()
