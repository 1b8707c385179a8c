"""Copies of a corpus that hold a clip more than once, as popular downloads do."""

import filecmp
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Misfit
from ser_platform.corpora.manifest import Utterance

DUPLICATE_REASON = "second copy"


def drop_duplicates(entries: Iterable[CorpusEntry]) -> Iterator[CorpusEntry]:
    """Yield each clip once.

    An utterance whose id came before is left out where it is a copy: described alike and, in the same format, of the
    same bytes. Else it is a misfit: which of the two is meant, nobody can say.
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
            yield Misfit(entry.path, f"is the clip {entry.id!r} like {known.path}, but described otherwise")
        elif _have_different_bytes(entry.path, known.path):
            yield Misfit(entry.path, f"is the clip {entry.id!r} like {known.path}, but another recording")
        else:
            yield ExcludedFile(entry.path, DUPLICATE_REASON)


def _have_different_bytes(first: Path, second: Path) -> bool:
    """Tell whether two files of one format hold different bytes; of two formats nobody can say."""
    try:
        return first.suffix == second.suffix and not filecmp.cmp(first, second, shallow=False)
    except OSError:
        return True  # a broken link is a copy of nothing
