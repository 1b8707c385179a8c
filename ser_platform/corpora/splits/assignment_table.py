"""Reads a split from a table with `path` or `id`, and `split` (train, dev, test) or `test_fold`."""

from collections import Counter
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.metadata_table import MetadataTable, format_cell, read_table
from ser_platform.errors import CorpusError, UserError

KEYS, VALUES = ("id", "path"), ("split", "test_fold")


def read_assignment(path: Path, manifest: Manifest) -> tuple[str, NDArray[np.str_]]:
    """Return the column of the table, "split" or "test_fold", and its value for each clip, `(n_clips,)`.

    Clips are matched by `id`, or by the end of their path, as the corpus may be in another folder or format. The table
    may list clips that are not in the manifest.

    Raises:
        UserError: there is no such table, it cannot be read, or it lacks a clip of the manifest.
    """
    if not path.is_file():
        raise UserError(f"protocol 'fixed' needs a table, like fixed:splits/emodb.csv; there is no file {path}")
    table = read_table(path)
    key, value = _find_column(table, KEYS), _find_column(table, VALUES)
    keys, values = _read_cells(table, key), _read_cells(table, value)
    if twice := [name for name, count in Counter(keys).items() if count > 1]:
        raise CorpusError(f"{path} has {twice[0]} twice in column {key!r}")
    clips = list(manifest.column(key))
    if key == "path":
        keys, clips = _shorten_paths(keys, clips)
    value_by_clip = dict(zip(keys, values, strict=True))
    unknown = [clip for clip in clips if clip not in value_by_clip]
    if unknown:
        raise CorpusError(f"{path} does not fit the corpus: {len(unknown)} clips are not in it, like {unknown[0]}")
    return value, np.array([value_by_clip[clip] for clip in clips])


def _find_column(table: MetadataTable, choices: tuple[str, str]) -> str:
    found = [name for name in choices if name in table.columns]
    if len(found) != 1:
        needed = " and ".join(" or ".join(pair) for pair in (KEYS, VALUES))
        raise UserError(
            f"{table.path} has the columns {', '.join(table.columns) or 'none'}; it needs {needed}, one of each"
        )
    return found[0]


def _read_cells(table: MetadataTable, name: str) -> list[str]:
    cells = [format_cell(row[name]) for row in table.rows]
    if None in cells:
        raise CorpusError(f"{table.path}: row {cells.index(None) + 1} has no {name}")
    return [cell for cell in cells if cell is not None]


def _shorten_paths(named: list[str], clips: list[str]) -> tuple[list[str], list[str]]:
    """Return the ends of the paths, with as few folders as distinguish the files of each list, but at most four."""
    for depth in range(1, 6):
        cut = [["/".join(_cut_path(text, depth)) for text in texts] for texts in (named, clips)]
        if all(len(set(texts)) == len(texts) for texts in cut):
            break
    return cut[0], cut[1]


def _cut_path(text: str, depth: int) -> tuple[str, ...]:
    path = PurePath(text)
    return (*path.parts[:-1], path.stem)[-depth:]
