"""Any folder of recordings: a directory per emotion, or a table `metadata.csv`, `.jsonl` or `.parquet`.

Without a table, the nearest folder named after an emotion, at any depth, is the emotion of a clip (`angry/`,
`Joy/anna/`), and the speakers are unknown. A table follows the Hugging Face audiofolder convention: `file_name`
(relative to the table) and `emotion` or `label`, in words; other columns of a manifest (`speaker`, `sex`, `start_s`,
...) are optional. Common other names (`OTHER_NAMES`) are recognised, and columns can be mapped. Tables may be in
subfolders (`train/metadata.csv`); clips in no table are left out. The id of a clip is its path in the folder without
the suffix, plus `#start-end` where it is a part of a file.
Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import contextlib
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from ser_platform.corpora.audio.reader import RECORDING_SUFFIXES, list_audio_files
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Facts, Misfit, read_entries
from ser_platform.corpora.manifest import DETAILS, Utterance, speaker_name
from ser_platform.corpora.metadata_table import MetadataTable, find_metadata_tables, format_cell, read_table
from ser_platform.emotions import EMOTIONS as VALID
from ser_platform.emotions import parse_emotion
from ser_platform.errors import CorpusError, UnknownChoice

FACTS = Facts(
    title="any folder of recordings",
    languages=(),
    clips=None,
    speakers=None,
    licence="yours",
    citation="",
    homepage="https://huggingface.co/docs/datasets/audio_dataset#audiofolder",
    how_to_get="a directory per emotion, or metadata.csv / .jsonl / .parquet with file_name and emotion",
)
EMOTIONS: dict[str, str] = {}
NEEDED_COLUMNS = ("file_name", "emotion")
TIME_COLUMNS = ("start_s", "end_s")
TEXT_COLUMNS = ("speaker", *DETAILS)
COLUMNS = (*NEEDED_COLUMNS, *TEXT_COLUMNS, *TIME_COLUMNS)
# Other names of our columns, in lower case; `label` is the column `emotion` in audiofolder.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "file_name": ("filename", "file", "path", "audio"),
    "emotion": ("label",),
    "speaker": ("speaker_id", "spk", "spk_id", "actor", "actor_id", "subject", "subject_id"),
    "sex": ("gender",),
}
SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}
PART_SPELLINGS = {"train": "train", "dev": "dev", "test": "test", "training": "train"} | dict.fromkeys(
    ("validation", "valid", "val", "development"), "dev"
)
NUMERIC_LABEL = re.compile(r"[+-]?\d+(\.0*)?")


def corpus_name(root: Path) -> str:
    """Return the name of the corpus in `root`: `folder-` and the name of the folder in `a-z`, `0-9` and `-`."""
    return "folder-" + (re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "corpus")


def recognises(path: PurePath) -> bool:
    """Return False: `recognises_folder` checks a folder as a whole, after all other adapters."""
    del path
    return False


def has_table(root: Path) -> bool:
    """Return whether `root` itself contains a table of metadata, which takes precedence over all file names."""
    return any(path.parent == root for path in find_metadata_tables(root))


def recognises_folder(root: Path, paths: Sequence[PurePath]) -> bool:
    """Return whether `root` has a table of metadata, or most of its `paths` are in folders named after emotions."""
    return bool(find_metadata_tables(root)) or 2 * sum(find_folder_emotion(path) is not None for path in paths) > len(
        paths
    )


def utterances(
    root: Path, columns: Mapping[str, str] | None = None, unguessed: Collection[str] = ()
) -> Iterator[CorpusEntry]:
    """Yield the entry of each file under `root`, ordered by path.

    Args:
        columns: maps our column names to the table's.
        unguessed: our columns that are not recognised by other names.

    Raises:
        CorpusError: a table cannot be read, lacks a column, has two for one of ours, or its emotions are numbers.
    """
    mapped, tables = dict(columns or {}), find_metadata_tables(root)
    for ours in mapped:
        if ours not in COLUMNS:
            raise CorpusError(f"unknown column {ours!r}; valid are {', '.join(COLUMNS)}")
    if tables:
        listed = _read_listed_clips(root, [read_table(path) for path in tables], mapped, unguessed)
        yield from _make_ids_distinct(listed, root)
    elif mapped:
        raise CorpusError(f"{root} has no table whose columns could be mapped (metadata.csv, .jsonl or .parquet)")
    else:
        paths = list_audio_files(root, RECORDING_SUFFIXES)
        yield from _make_ids_distinct(read_entries(paths, partial(_label_by_folder, root=root)), root)


def _label_by_folder(path: Path, root: Path) -> Utterance:
    within = path.relative_to(root)
    named = _find_folder_emotions(within)
    if len(set(named.values())) > 1:  # speakers may be called Joy
        raise CorpusError(f"is in folders of two emotions, {' and '.join(named)}; rename one, or write metadata.csv")
    emotion = find_folder_emotion(within)
    if emotion is None:
        where = f"its folder {within.parent.name!r}" if within.parent.name else f"the folder {root.name!r} itself"
        raise CorpusError(f"neither {where} nor one above is an emotion; valid are {', '.join(VALID)}")
    corpus = corpus_name(root)
    return Utterance(_format_id(within.with_suffix("")), path, corpus, speaker_name(corpus, None), emotion)


def find_folder_emotion(within: PurePath) -> str | None:
    """Return the emotion of the nearest folder in a path that is named after one; None without such a folder."""
    return next(iter(_find_folder_emotions(within).values()), None)


def _find_folder_emotions(within: PurePath) -> dict[str, str]:
    """Return the folders in a path that are named after emotions, nearest first, with their emotions."""
    found = {}
    for folder in reversed(within.parent.parts):
        with contextlib.suppress(UnknownChoice):
            found[folder] = parse_emotion(folder)
    return found


def describe_columns(root: Path, columns: Mapping[str, str], unguessed: Collection[str] = ()) -> list[str]:
    """Return a line for each column of the tables under `root` that is recognised by another name."""
    found = (_find_columns(read_table(path), columns, unguessed) for path in find_metadata_tables(root))
    renamed = dict.fromkeys((theirs, ours) for names in found for ours, theirs in names.items() if ours not in columns)
    return [f"column {theirs} is used as {ours}" for theirs, ours in renamed if theirs != ours]


def _read_listed_clips(
    root: Path, tables: Sequence[MetadataTable], mapped: Mapping[str, str], unguessed: Collection[str]
) -> Iterator[CorpusEntry]:
    entries: list[CorpusEntry] = []
    for table in tables:
        names = _map_columns(table, mapped, unguessed)
        entries += (_parse_row(row, number, root, table.path, names) for number, row in enumerate(table.rows, 1))
    listed = {entry.path for entry in entries}
    paths = list_audio_files(root, RECORDING_SUFFIXES)
    entries += (ExcludedFile(path, "in no table of metadata") for path in paths if path not in listed)
    return iter(sorted(entries, key=_sort_key))


def _find_columns(table: MetadataTable, mapped: Mapping[str, str], unguessed: Collection[str]) -> dict[str, str]:
    """Return the table's name of each of our columns that the table has, as mapped or by one of its names.

    Raises:
        CorpusError: a mapped column is missing, or two columns are for one of ours.
    """
    names = {ours: table.require_column(ours, theirs) for ours, theirs in mapped.items()}
    taken = frozenset(mapped.values())
    for ours in COLUMNS:
        if ours in names:
            continue
        if ours in unguessed:
            found = ours if ours in table.columns else None
        else:
            found = table.find_column(ours, OTHER_NAMES.get(ours, ()), taken)
        if found is not None:
            names[ours] = found
    return names


def _map_columns(table: MetadataTable, mapped: Mapping[str, str], unguessed: Collection[str]) -> dict[str, str]:
    """Return the table's name of each of our columns that the table has."""
    names = _find_columns(table, mapped, unguessed)
    for ours in NEEDED_COLUMNS:
        table.require_column(ours, names.get(ours, ours))
    for number, row in enumerate(table.rows, 1):
        word = format_cell(row.get(names["emotion"]))
        if word is not None and NUMERIC_LABEL.fullmatch(word):
            raise CorpusError(
                f"{table.path} row {number}: the emotion in column {names['emotion']!r} is the number {word}, "
                f"whose meaning is not in the table; write words: {', '.join(VALID)}"
            )
    return names


def _parse_row(row: Mapping[str, Any], number: int, root: Path, table: Path, names: Mapping[str, str]) -> CorpusEntry:
    cells = {ours: format_cell(row.get(theirs)) for ours, theirs in names.items()}
    where, file_name, word = f"row {number} of {table.name}", cells["file_name"], cells["emotion"]
    if file_name is None:
        return Misfit(table, f"row {number} names no file")
    path = _resolve_inside(root, table.parent, file_name)
    if path is None:
        return Misfit(table.parent / file_name, f"{where} leaves the folder {root}")
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for names that no file can have
        return Misfit(path, f"no such file, which {where} names")
    if word is None:
        return Misfit(path, f"{where} has no emotion; valid are {', '.join(VALID)}")
    try:
        emotion, start_s, end_s = parse_emotion(word), _parse_seconds(cells, "start_s"), _parse_seconds(cells, "end_s")
        words = _parse_text_columns(cells)
    except (UnknownChoice, CorpusError) as error:
        return Misfit(path, f"{where}: {error}")
    if end_s is not None and end_s <= (start_s or 0.0):
        return Misfit(path, f"{where}: end_s {end_s:g} is not after start_s {start_s or 0:g}")
    corpus = corpus_name(root)
    speaker = speaker_name(corpus, words.pop("speaker", None))
    clip = _format_id(path.relative_to(root).with_suffix(""), start_s, end_s)
    return Utterance(clip, path, corpus, speaker, emotion, start_s, end_s, **words)


def _resolve_inside(root: Path, folder: Path, file_name: str) -> Path | None:
    """Return the path of a `file_name` cell of a table in `folder`, None outside `root`; links are not resolved."""
    base = os.path.normpath(root)
    path = PurePath(os.path.normpath(folder / file_name))
    if PurePath(file_name).is_absolute() or not path.is_relative_to(base):
        return None
    return root / path.relative_to(base)


def _parse_seconds(cells: Mapping[str, str | None], name: str) -> float | None:
    text = cells.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CorpusError(f"{name} {text!r} is not a time in seconds")
    return seconds


def _parse_text_columns(cells: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the columns of text, with the standard spelling of sexes and parts."""
    words: dict[str, Any] = {name: cells[name] for name in TEXT_COLUMNS if name in cells}
    if sex := words.get("sex"):
        words["sex"] = SEXES.get(sex.lower(), sex.lower())
    if part := words.get("part"):
        if part.lower() not in PART_SPELLINGS:
            raise CorpusError(f"unknown part {part!r}; valid are train, dev, test")
        words["part"] = PART_SPELLINGS[part.lower()]
    return words


def _format_id(within: PurePath, start_s: float | None = None, end_s: float | None = None) -> str:
    if start_s is None and end_s is None:
        return within.as_posix()
    return f"{within.as_posix()}#{_format_time(start_s or 0.0)}-{'' if end_s is None else _format_time(end_s)}"


def _format_time(seconds: float) -> str:
    """Return seconds with at most six decimals and without trailing zeros: `0.5`, `12`."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _sort_key(entry: CorpusEntry) -> tuple[Path, float, float]:
    if isinstance(entry, Utterance):
        return entry.path, entry.start_s or 0.0, math.inf if entry.end_s is None else entry.end_s
    return entry.path, 0.0, 0.0


def _make_ids_distinct(entries: Iterable[CorpusEntry], root: Path) -> Iterator[CorpusEntry]:
    """Yield the entries; files that differ only in their suffix keep it in their ids.

    The second entry of the same clip becomes a Misfit.
    """
    found = list(entries)
    paths = {entry.path for entry in found if isinstance(entry, Utterance)}
    shared = Counter(path.with_suffix("") for path in paths)
    seen = set()
    for entry in found:
        if not isinstance(entry, Utterance):
            yield entry
        elif (clip := (entry.path, entry.start_s, entry.end_s)) in seen:
            yield Misfit(entry.path, "is listed twice")
        else:
            seen.add(clip)
            full = _format_id(entry.path.relative_to(root), entry.start_s, entry.end_s)
            yield replace(entry, id=full) if shared[entry.path.with_suffix("")] > 1 else entry
