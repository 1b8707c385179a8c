"""RAVDESS, song part: 23 of its 24 actors (18 is missing), 2 sentences sung, 1012 clips, 6 emotions, 48 kHz.

Source, licence, citation and file names are those of `ravdess`; the channel is 02. Each actor sings 44 clips: neutral
4, calm, happiness, sadness, anger and fear 8 each. An actor is the same speaker here as in `ravdess`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

from ser_platform.corpora.datasets import ravdess
from ser_platform.corpora.datasets.file_names import entries_below
from ser_platform.corpora.facts import Archive, CorpusEntry

FACTS = replace(
    ravdess.FACTS,
    title="RAVDESS, song",
    clips=1012,
    speakers=23,
    archives=(
        Archive(  # size and MD5 as the record's table of files gives them
            "https://zenodo.org/records/1188976/files/Audio_Song_Actors_01-24.zip?download=1",
            225_505_317,
            "md5:5411230427d67a21e18aa4d466e6d1b9",
        ),
    ),
)
EMOTIONS = {code: ravdess.EMOTIONS[code] for code in ("01", "02", "03", "04", "05", "06")}


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, is RAVDESS's song."""
    match = ravdess.NAME.fullmatch(path.stem)
    return match is not None and ravdess.CHANNELS.get(match[2]) == "song"


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield what each file under `root` is, ordered by path; speech is left out."""
    return entries_below(root, partial(ravdess.parse_utterance, corpus="ravdess_song", channel="song"))
