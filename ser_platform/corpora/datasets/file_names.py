"""Labels in file names: what the adapters of such corpora share."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.datasets.duplicates import drop_duplicates
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, read_entries
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError


def entries_below(root: Path, read: Callable[[Path], Utterance | ExcludedFile]) -> Iterator[CorpusEntry]:
    """Yield what `read` makes of each audio file under `root`, ordered by path; second copies are left out."""
    return drop_duplicates(read_entries(list_audio_files(root), read))


def match_name(pattern: re.Pattern[str], name: str, corpus: str, example: str) -> re.Match[str]:
    """Return the match of a file's name, without suffix, with the grammar of its corpus.

    Raises:
        CorpusError: the name is outside the grammar; `example` shows a valid one.
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise CorpusError(f"{name!r} is no {corpus} name (like {example})")
    return match


def require_known(what: str, token: str, valid: Collection[object], where: str = "") -> None:
    """Refuse a token that is not among the valid ones.

    Raises:
        CorpusError: names the token and the valid ones; `where` tells where the token stands.
    """
    if token not in valid:
        raise CorpusError(f"unknown {what} {token!r}{where}; valid are {', '.join(map(str, valid))}")
