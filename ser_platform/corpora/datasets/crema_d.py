"""CREMA-D: 91 actors, 12 English sentences, 7442 clips, 6 emotions, 16 kHz.

Cao, Cooper, Keutmann, Gur, Nenkova & Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
Transactions on Affective Computing 5(4), 2014. Licence: ODbL 1.0, contents DbCL 1.0. Source:
https://github.com/CheyneyComputerScience/CREMA-D. File names, `1001_IEO_ANG_HI`: actor, sentence, emotion, intensity.

| anger | disgust | fear | happiness | neutral | sadness |
|---|---|---|---|---|---|
| 1271 | 1271 | 1271 | 1271 | 1087 | 1271 |

48 men and 43 women of 20 to 74 years speak 82 clips each (two of them 81, three 76). Intensity is known for the
sentence IEO alone: 455 clips low, 455 medium, 455 high; XX says unspecified. 1076_MTI_SAD_XX is silent in the release.

Two tables of the repository are read where they lie under the corpus, or beside it: `VideoDemographics.csv` (sex and
age of each actor) and `processedResults/summaryTable.csv` (what most raters heard in the voice alone, and how strongly
on a scale of 0 to 100: `A:D 37.2:58.6` is a tie of anger and disgust). Sex, age and votes are empty without them.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.datasets.duplicates import DUPLICATE_REASON, drop_duplicates
from ser_platform.corpora.datasets.file_names import match_name, require_known
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Facts, read_entries
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
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None}  # early releases cut one XX short
DEMOGRAPHICS = Path("VideoDemographics.csv")
VOTES = Path("processedResults", "summaryTable.csv")
NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")

RowsByKey = Mapping[str, Mapping[str, str]]


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, follows the grammar of this corpus."""
    return NAME.fullmatch(path.stem) is not None


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield what each file under `root` is, ordered by path; of a clip as WAV and as MP3 the MP3 is left out.

    Raises:
        CorpusError: a table lacks a column.
    """
    actors = _table(root, DEMOGRAPHICS, ("ActorID", "Age", "Sex"))
    votes = _table(root, VOTES, ("FileName", "VoiceVote", "VoiceLevel"))
    paths = list_audio_files(root)
    as_wav = frozenset(path.stem for path in paths if path.suffix.lower() == ".wav")
    return drop_duplicates(read_entries(paths, partial(_entry, as_wav=as_wav, actors=actors, votes=votes)))


def _entry(path: Path, as_wav: frozenset[str], actors: RowsByKey, votes: RowsByKey) -> Utterance | ExcludedFile:
    if path.suffix.lower() != ".wav" and path.stem in as_wav:
        return ExcludedFile(path, DUPLICATE_REASON)
    return _utterance(path, actors, votes)


def _utterance(path: Path, actors: RowsByKey, votes: RowsByKey) -> Utterance:
    match = match_name(NAME, path.stem, "CREMA-D", "1001_IEO_ANG_HI")
    actor, sentence, emotion, intensity = match.groups()
    require_known("sentence", sentence, SENTENCES)
    require_known("emotion", emotion, EMOTIONS)
    require_known("intensity", intensity, INTENSITIES)
    name = "_".join((actor, sentence, emotion, "XX" if intensity == "X" else intensity))
    actor_row, vote_row = actors.get(actor), votes.get(name)
    return Utterance(
        id=name,
        path=path,
        corpus="crema_d",
        speaker=f"crema_d-{actor}",
        emotion=EMOTIONS[emotion],
        sex=actor_row["Sex"].lower() or None if actor_row else None,
        age=actor_row["Age"] or None if actor_row else None,
        language="en",
        intensity=INTENSITIES[intensity],
        sentence=sentence,
        votes=f"{vote_row['VoiceVote']} {vote_row['VoiceLevel']}" if vote_row else None,
    )


def _table(root: Path, name: Path, columns: tuple[str, ...]) -> RowsByKey:
    """Return the rows of a table by their first column, empty where the table is not there."""
    path = next((found for found in (*sorted(root.rglob(name.name)), root.parent / name) if found.is_file()), None)
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        if missing := set(columns).difference(rows.fieldnames or ()):
            raise CorpusError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        return {row[columns[0]]: row for row in rows}
