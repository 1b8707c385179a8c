"""The facts that an adapter states about its corpus, and the entries that it yields for the files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError


@dataclass(frozen=True)
class Archive:
    """An official file to download.

    `checksum` is `md5:HEX` or `sha256:HEX`; it and `n_bytes` are None where the publisher states none.
    """

    url: str
    n_bytes: int | None
    checksum: str | None


@dataclass(frozen=True)
class Facts:
    """A corpus as its publishers describe it.

    Attributes:
        languages: BCP 47 codes.
        clips, speakers: counts of the complete release; None where they are not fixed.
        licence: SPDX name where there is one.
        citation: the paper, in one line.
        homepage: address of the description.
        archives: files that `ser corpora fetch` downloads; empty where the corpus needs a request or a registration.
        how_to_get: where there is no archive, how to get the corpus, in one line.
        is_synthetic: whether no clip is a recording of a person.
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
    is_synthetic: bool = False


@dataclass(frozen=True)
class Misfit:
    """A file that does not fit the file names or tables of its corpus: an error in this copy of the corpus."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class ExcludedFile:
    """A file that the adapter leaves out, such as a song in a corpus of speech, and the reason."""

    path: Path
    reason: str


CorpusEntry = Utterance | Misfit | ExcludedFile


def read_entries(paths: Iterable[Path], read_file: Callable[[Path], Utterance | ExcludedFile]) -> Iterator[CorpusEntry]:
    """Yield `read_file(path)` for each path; a CorpusError becomes a Misfit, so that the other files are still read."""
    for path in paths:
        try:
            yield read_file(path)
        except CorpusError as error:
            yield Misfit(path, str(error))
