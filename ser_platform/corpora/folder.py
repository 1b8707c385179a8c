"""Any folder of recordings: a directory per emotion, or a table `metadata.csv`, `.jsonl` or `.parquet`.

The table follows the Hugging Face audiofolder convention: `file_name` (relative to the table) and `emotion`; other
columns of a manifest (`speaker`, `sex`, `start_s`, ...) are taken where they are there. Column names can be mapped.
Source: https://huggingface.co/docs/datasets/audio_dataset#audiofolder
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from ser_platform.corpora.facts import Entry, Facts

FACTS = Facts(
    title="any folder of recordings",
    languages=(),
    clips=None,
    speakers=None,
    licence="yours",
    citation="",
    homepage="https://huggingface.co/docs/datasets/audio_dataset#audiofolder",
    how="a directory per emotion, or metadata.csv / .jsonl / .parquet with file_name and emotion",
)
EMOTIONS: dict[str, str] = {}


def corpus_name(root: Path) -> str:
    """Return the name of the corpus in `root`: the folder's, made fit for runs and speakers."""
    return "folder-" + (re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "corpus")


def recognises(path: PurePath) -> bool:
    """Return False: a folder is recognised as a whole, after the corpora that have a grammar."""
    del path
    return False


def recognises_folder(root: Path, paths: Sequence[PurePath]) -> bool:
    """Tell whether `root` has a table of metadata, or most of its audio `paths` lie in folders named after emotions."""
    return False


def utterances(root: Path, columns: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Yield what each file under `root` is, ordered by path; `columns` maps our column names to the table's."""
    return iter(())
