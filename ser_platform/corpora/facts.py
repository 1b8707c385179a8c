"""What an adapter states about its corpus, and what it makes of each file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError


@dataclass(frozen=True)
class Archive:
    """An official file to download. `checksum` is `md5:HEX` or `sha256:HEX`, None where the publisher gives none."""

    url: str
    n_bytes: int | None
    checksum: str | None


@dataclass(frozen=True)
class Facts:
    """What a corpus is, as its publishers say.

    Attributes:
        title: full name.
        languages: BCP 47 codes.
        clips, speakers: of the complete release; None where it is not fixed.
        classes: how many emotions after the map into the ontology.
        licence: SPDX name where there is one.
        citation: paper, in one line.
        homepage: where it is described.
        archives: what `ser corpora fetch` downloads; empty where a person has to ask for it.
        how: in one line, how to get it where there is no archive.
    """

    title: str
    languages: tuple[str, ...]
    clips: int | None
    speakers: int | None
    licence: str
    citation: str
    homepage: str
    archives: tuple[Archive, ...] = ()
    how_to_get: str = ""


@dataclass(frozen=True)
class Misfit:
    """A file that the corpus's grammar or table cannot place: an error in the copy at hand."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class ExcludedFile:
    """A file that the corpus has but that is no utterance of it here, like song in a speech corpus, and why."""

    path: Path
    reason: str


CorpusEntry = Utterance | Misfit | ExcludedFile


def read_entries(paths: Iterable[Path], read_file: Callable[[Path], Utterance | ExcludedFile]) -> Iterator[CorpusEntry]:
    """Yield what `read_file` makes of each path; its CorpusError becomes a Misfit, so that the other files are read."""
    for path in paths:
        try:
            yield read_file(path)
        except CorpusError as error:
            yield Misfit(path, str(error))
