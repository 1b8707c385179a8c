"""Removes second copies of clips, which some popular downloads of corpora contain."""

import filecmp
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Misfit
from ser_platform.corpora.manifest import Utterance

DUPLICATE_REASON = "second copy"


def drop_duplicates(entries: Iterable[CorpusEntry]) -> Iterator[CorpusEntry]:
    """Yield each clip once.

    An utterance whose id occurred before is an ExcludedFile where it is a copy: all its fields are equal and, if both
    files have the same format, their bytes are too. Otherwise it is a Misfit.
    """
    first: dict[str, Utterance] = {}
    for entry in entries:
        if not isinstance(entry, Utterance):
            yield entry
            continue
        known = first.setdefault(entry.id, entry)
        if known is entry:
            yield entry
        elif replace(entry, path=known.path) != known:
            yield Misfit(entry.path, f"is the clip {entry.id!r} like {known.path}, but with other labels")
        elif _have_different_bytes(entry.path, known.path):
            yield Misfit(entry.path, f"is the clip {entry.id!r} like {known.path}, but another recording")
        else:
            yield ExcludedFile(entry.path, DUPLICATE_REASON)


def _have_different_bytes(first: Path, second: Path) -> bool:
    """Return whether two files of one format differ; False for two formats, which cannot be compared."""
    try:
        return first.suffix == second.suffix and not filecmp.cmp(first, second, shallow=False)
    except OSError:
        return True  # one is a broken link
