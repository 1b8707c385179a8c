"""nEMO: 9 Polish actors, 90 sentences, 4481 clips, 6 emotions, 24 kHz.

File names, `EB0_anger_1`: actor, emotion, sentence.

| anger | fear | happiness | neutral | sadness | surprise |
|---|---|---|---|---|---|
| 749 | 736 | 749 | 809 | 769 | 669 |

Women: EB0 (539 clips, 27 years old), IC0 (540, 28), KD0 (540, 28), MK0 (450, 23; none surprised); men: KS0 (540, 23),
MP0 (256, 24), SM0 (538, 24), TP0 (539, 26), WR0 (539, 23). Sex and age are from `task.tsv` of the release.
"""

import re
from pathlib import Path

from ser_platform.corpora.datasets.file_names import FileNames, decode
from ser_platform.corpora.facts import Archive, Facts
from ser_platform.corpora.manifest import Utterance

RELEASE = "66de9999a8f2f605eb5f64841790aa5cb0877782"  # the commit that the counts above were taken from
FACTS = Facts(
    title="nEMO, Dataset of Emotional Speech in Polish",
    languages=("pl",),
    clips=4481,
    speakers=9,
    licence="CC-BY-NC-SA-4.0",
    citation="Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024",
    homepage="https://github.com/amu-cai/nEMO",
    # GitHub makes the archive on demand: the files in it are fixed, its size and checksum are not.
    archives=(Archive(f"https://github.com/amu-cai/nEMO/archive/{RELEASE}.zip", None, None),),
)
EMOTIONS = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprised": "surprise",
}
AGES = {"EB0": 27, "IC0": 28, "KD0": 28, "KS0": 23, "MK0": 23, "MP0": 24, "SM0": 24, "TP0": 26, "WR0": 23}
WOMEN = frozenset({"EB0", "IC0", "KD0", "MK0"})


def _parse(path: Path, match: re.Match[str]) -> Utterance:
    actor, emotion, sentence = match.groups()
    return Utterance(
        id=path.stem,
        path=path,
        corpus="nemo",
        speaker=f"nemo-{actor}",
        emotion=decode("emotion", emotion, EMOTIONS),
        sex="female" if actor in WOMEN else "male",
        age=str(decode("speaker", actor, AGES)),
        language="pl",
        sentence=sentence,
    )


NAMES = FileNames(re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d{1,2})"), "nEMO", "EB0_anger_1", _parse)
recognises, utterances = NAMES.recognises, NAMES.utterances
