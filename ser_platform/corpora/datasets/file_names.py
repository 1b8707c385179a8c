"""Corpora that carry the labels in their file names: one grammar for each, and the checks of its codes."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.datasets.duplicates import drop_duplicates
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, read_entries
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

Value = TypeVar("Value")


@dataclass(frozen=True)
class FileNames:
    """The grammar of a corpus's file names, without suffix.

    Attributes:
        pattern: a regular expression with one group for each code.
        title: the corpus, in messages.
        example: a valid name, in messages.
        parse: returns the entry of a file from its path and the match of its name; raises CorpusError.
    """

    pattern: re.Pattern[str]
    title: str
    example: str
    parse: Callable[..., Utterance | ExcludedFile]

    def recognises(self, path: PurePath) -> bool:
        """Return whether a path within the corpus follows the grammar."""
        return self.pattern.fullmatch(path.stem) is not None

    def utterances(self, root: Path, /, **context: Any) -> Iterator[CorpusEntry]:
        """Yield the entry of each audio file under `root`, ordered by path, without second copies.

        `context` is passed on to `parse`.
        """

        def read_file(path: Path) -> Utterance | ExcludedFile:
            match = self.pattern.fullmatch(path.stem)
            if match is None:
                raise CorpusError(f"{path.stem!r} is no {self.title} name (like {self.example})")
            return self.parse(path, match, **context)

        return drop_duplicates(read_entries(list_audio_files(root), read_file))


def decode(what: str, code: str, values: Mapping[str, Value]) -> Value:
    """Return the value of a code in a file name.

    Raises:
        CorpusError: the code is unknown; the message lists the valid ones.
    """
    require_known(what, code, values)
    return values[code]


def require_known(what: str, code: str, valid: Collection[object], where: str = "") -> None:
    """Refuse a code that is not among the valid ones.

    Raises:
        CorpusError: the code is unknown; the message has `where`, the place of the code, and lists the valid ones.
    """
    if code not in valid:
        raise CorpusError(f"unknown {what} {code!r}{where}; valid are {', '.join(map(str, valid))}")
