"""From what the user calls a corpus, a name or a path, to its adapter and folder."""

from dataclasses import dataclass
from pathlib import Path

from ser_platform.corpora import CORPORA, demo
from ser_platform.corpora.audio import AUDIO_SUFFIXES
from ser_platform.corpora.manifest import Manifest
from ser_platform.errors import CorpusError, UnknownChoice
from ser_platform.settings import corpora_folder


@dataclass(frozen=True)
class FoundCorpus:
    """A corpus and where its audio lies."""

    name: str
    root: Path

    def manifest(self) -> Manifest:
        """Return the manifest of the files under `root`, without durations and audio digests.

        Raises:
            CorpusError: there is no audio, or a file name is outside the grammar.
        """
        manifest = Manifest.from_utterances(CORPORA[self.name].utterances(self.root))
        if not len(manifest):
            raise CorpusError(f"{self.root} holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))})")
        return manifest


def find_corpus(name_or_path: str, as_name: str | None = None) -> FoundCorpus:
    """Find a corpus by name (under `SER_CORPORA`: `NAME`, then `NAME-*`) or by path.

    A path is recognised by its file names unless `as_name` says which corpus it is. `demo` is spoken when missing.

    Raises:
        UnknownChoice: neither a corpus name nor an existing path.
        CorpusError: the corpus is not where it is looked up, or nothing recognises the folder.
    """
    if as_name is not None and as_name not in CORPORA:
        raise UnknownChoice("corpus", as_name, CORPORA)
    if name_or_path == "demo" and as_name is None:
        return FoundCorpus("demo", demo.speak())
    if name_or_path in CORPORA:
        return FoundCorpus(as_name or name_or_path, _by_name(name_or_path))
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise UnknownChoice("corpus", name_or_path, [*CORPORA, "or an existing folder"])
    if not path.is_dir():
        raise CorpusError(f"{path} is a file; a corpus is a folder")
    return FoundCorpus(as_name or _recognised(path), path.resolve())


def located(name: str) -> Path | None:
    """Return the folder of corpus `name` under `SER_CORPORA`, or None."""
    folder = corpora_folder()
    if folder is None:
        return None
    candidates = [folder / name, *sorted(folder.glob(f"{name}-*"))]
    return next((path for path in candidates if path.is_dir()), None)


def _by_name(name: str) -> Path:
    if corpora_folder() is None:
        raise CorpusError(f"set SER_CORPORA to the folder that holds {name!r}, or give the corpus by its path")
    path = located(name)
    if path is None:
        raise CorpusError(f"no folder {name} or {name}-* under SER_CORPORA={corpora_folder()}")
    return path


def _recognised(root: Path) -> str:
    stems = [path.stem for path in root.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES]
    if not stems:
        raise CorpusError(f"{root} holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))})")
    for name, adapter in CORPORA.items():
        # A majority, so that one odd file is named by the adapter instead of hiding the corpus.
        if 2 * sum(map(adapter.recognises, stems)) > len(stems):
            return name
    raise CorpusError(
        f"{root}: file names like {stems[0]!r} fit no corpus; say which it is with --as {'|'.join(CORPORA)}"
    )
