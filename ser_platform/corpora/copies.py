"""Copies of a corpus that hold a clip more than once, as popular downloads do."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ser_platform.corpora.facts import Entry, LeftOut, Misfit
from ser_platform.corpora.manifest import Utterance

SECOND_COPY = "second copy"


def once(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield each clip once: an utterance whose id came before is left out, or is a misfit where it says otherwise."""
    first: dict[str, Utterance] = {}
    for entry in entries:
        if not isinstance(entry, Utterance):
            yield entry
            continue
        known = first.setdefault(entry.id, entry)
        if known is entry:
            yield entry
        elif replace(entry, path=known.path) == known:
            yield LeftOut(entry.path, SECOND_COPY)
        else:
            yield Misfit(entry.path, f"is the clip {entry.id!r} like {known.path}, but described otherwise")
