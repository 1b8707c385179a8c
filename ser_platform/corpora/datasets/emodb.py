"""EmoDB, the Berlin Database of Emotional Speech: 10 actors, 10 German sentences, 535 clips, 7 emotions, 16 kHz.

File names, `03a01Fa`: speaker (2), sentence (3), emotion, version.

| anger | boredom | disgust | fear | happiness | neutral | sadness |
|---|---|---|---|---|---|---|
| 127 | 81 | 46 | 69 | 71 | 79 | 62 |

Men: 03 (49 clips), 10 (38), 11 (55), 12 (35), 15 (56); women: 08 (58), 09 (43), 13 (61), 14 (69), 16 (71).
"""

import re
from pathlib import Path

from ser_platform.corpora.datasets.file_names import FileNames, decode
from ser_platform.corpora.facts import Archive, Facts
from ser_platform.corpora.manifest import Utterance

FACTS = Facts(
    title="EmoDB, Berlin Database of Emotional Speech",
    languages=("de",),
    clips=535,
    speakers=10,
    licence="CC0-1.0",
    citation="Burkhardt et al., A database of German emotional speech, Interspeech 2005",
    homepage="http://emodb.bilderbar.info",
    # No checksum is published; the size is that of the server's answer.
    archives=(Archive("http://emodb.bilderbar.info/download/download.zip", 40_567_066, None),),
)
EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
AGES = {"03": 31, "08": 34, "09": 21, "10": 32, "11": 26, "12": 30, "13": 32, "14": 35, "15": 25, "16": 31}
MALE = frozenset({"03", "10", "11", "12", "15"})


def _parse(path: Path, match: re.Match[str]) -> Utterance:
    speaker, sentence, letter, version = match.groups()
    return Utterance(
        id=path.stem,
        path=path,
        corpus="emodb",
        speaker=f"emodb-{speaker}",
        emotion=decode("emotion", letter, EMOTIONS),
        sex="male" if speaker in MALE else "female",
        age=str(decode("speaker", speaker, AGES)),
        language="de",
        sentence=sentence,
        repetition=version,
    )


NAMES = FileNames(re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])"), "EmoDB", "03a01Fa", _parse)
recognises, utterances = NAMES.recognises, NAMES.utterances
