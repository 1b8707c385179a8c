"""CREMA-D: 91 actors, 12 English sentences, 7442 clips, 6 emotions, 16 kHz.

File names, `1001_IEO_ANG_HI`: actor, sentence, emotion, intensity.

| anger | disgust | fear | happiness | neutral | sadness |
|---|---|---|---|---|---|
| 1271 | 1271 | 1271 | 1271 | 1087 | 1271 |

There are 82 clips of each actor (of two actors 81, of three 76); 48 are men and 43 women, aged 20 to 74. Only the
sentence IEO has intensities: 455 clips low, 455 medium, 455 high; XX is unspecified. 1076_MTI_SAD_XX is silent in the
release.

Two tables of the repository are read if they are in the folder of the corpus or in its parent folder:
`VideoDemographics.csv` (sex and age of each actor) and `processedResults/summaryTable.csv` (the emotion that most
raters chose from the voice alone, and its strength from 0 to 100: `A:D 37.2:58.6` is a tie of anger and disgust).
Without these tables, sex, age and votes are empty.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.datasets.duplicates import DUPLICATE_REASON
from ser_platform.corpora.datasets.file_names import FileNames, decode, require_known
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Facts
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

FACTS = Facts(
    title="CREMA-D, Crowd-sourced Emotional Multimodal Actors Dataset",
    languages=("en",),
    clips=7442,
    speakers=91,
    licence="ODbL-1.0",
    citation="Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE TAC 5(4), 2014",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    how_to_get=(
        "GIT_LFS_SKIP_SMUDGE=1 git clone https://github.com/CheyneyComputerScience/CREMA-D, "
        "then in it: git lfs pull --include AudioWAV"
    ),
)
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None}  # early releases have one X for XX
DEMOGRAPHICS = Path("VideoDemographics.csv")
VOTES = Path("processedResults", "summaryTable.csv")

RowsByKey = Mapping[str, Mapping[str, str]]


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield the entry of each file under `root`, ordered by path; an MP3 is left out where there is a WAV of its name.

    Raises:
        CorpusError: a table lacks a column.
    """
    actors = _read_table(root, DEMOGRAPHICS, ("ActorID", "Age", "Sex"))
    votes = _read_table(root, VOTES, ("FileName", "VoiceVote", "VoiceLevel"))
    wav_names = frozenset(path.stem for path in list_audio_files(root) if path.suffix.lower() == ".wav")
    return NAMES.utterances(root, wav_names=wav_names, actors=actors, votes=votes)


def _parse(
    path: Path, match: re.Match[str], wav_names: frozenset[str], actors: RowsByKey, votes: RowsByKey
) -> Utterance | ExcludedFile:
    if path.suffix.lower() != ".wav" and path.stem in wav_names:
        return ExcludedFile(path, DUPLICATE_REASON)
    actor, sentence, emotion, intensity = match.groups()
    require_known("sentence", sentence, SENTENCES)
    name = "_".join((actor, sentence, emotion, "XX" if intensity == "X" else intensity))
    actor_row, vote_row = actors.get(actor), votes.get(name)
    return Utterance(
        id=name,
        path=path,
        corpus="crema_d",
        speaker=f"crema_d-{actor}",
        emotion=decode("emotion", emotion, EMOTIONS),
        sex=actor_row["Sex"].lower() or None if actor_row else None,
        age=actor_row["Age"] or None if actor_row else None,
        language="en",
        intensity=decode("intensity", intensity, INTENSITIES),
        sentence=sentence,
        votes=f"{vote_row['VoiceVote']} {vote_row['VoiceLevel']}" if vote_row else None,
    )


def _read_table(root: Path, name: Path, columns: tuple[str, ...]) -> RowsByKey:
    """Return the rows of a table by their first column; empty where there is no such table."""
    path = next((found for found in (*sorted(root.rglob(name.name)), root.parent / name) if found.is_file()), None)
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        if missing := set(columns).difference(rows.fieldnames or ()):
            raise CorpusError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        return {row[columns[0]]: row for row in rows}


NAMES = FileNames(re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})"), "CREMA-D", "1001_IEO_ANG_HI", _parse)
recognises = NAMES.recognises
