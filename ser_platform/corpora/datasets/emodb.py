"""EmoDB, the Berlin Database of Emotional Speech: 10 actors, 10 German sentences, 535 clips, 7 emotions, 16 kHz.

Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss, "A database of German emotional speech", Interspeech 2005. Licence:
CC0-1.0. Source: http://emodb.bilderbar.info. File names, `03a01Fa`: speaker (2), sentence (3), emotion, version.

| anger | boredom | disgust | fear | happiness | neutral | sadness |
|---|---|---|---|---|---|---|
| 127 | 81 | 46 | 69 | 71 | 79 | 62 |

Men: 03 (49 clips), 10 (38), 11 (55), 12 (35), 15 (56); women: 08 (58), 09 (43), 13 (61), 14 (69), 16 (71).
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import entries_below, match_name, require_known
from ser_platform.corpora.facts import Archive, CorpusEntry, Facts
from ser_platform.corpora.manifest import Utterance

FACTS = Facts(
    title="EmoDB, Berlin Database of Emotional Speech",
    languages=("de",),
    clips=535,
    speakers=10,
    licence="CC0-1.0",
    citation="Burkhardt et al., A database of German emotional speech, Interspeech 2005",
    homepage="http://emodb.bilderbar.info",
    # No checksum is published; the size is what the server sends.
    archives=(Archive("http://emodb.bilderbar.info/download/download.zip", 40_567_066, None),),
)
EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
AGES = {"03": 31, "08": 34, "09": 21, "10": 32, "11": 26, "12": 30, "13": 32, "14": 35, "15": 25, "16": 31}
MALE = frozenset({"03", "10", "11", "12", "15"})
NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, follows the grammar of this corpus."""
    return NAME.fullmatch(path.stem) is not None


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield what each file under `root` is, ordered by path."""
    return entries_below(root, _utterance)


def _utterance(path: Path) -> Utterance:
    match = match_name(NAME, path.stem, "EmoDB", "03a01Fa")
    speaker, sentence, letter, version = match.groups()
    require_known("emotion", letter, EMOTIONS)
    require_known("speaker", speaker, AGES)
    return Utterance(
        id=path.stem,
        path=path,
        corpus="emodb",
        speaker=f"emodb-{speaker}",
        emotion=EMOTIONS[letter],
        sex="male" if speaker in MALE else "female",
        age=str(AGES[speaker]),
        language="de",
        sentence=sentence,
        repetition=version,
    )
