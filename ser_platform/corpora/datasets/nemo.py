"""nEMO: 9 Polish actors, 90 sentences, 4481 clips, 6 emotions, 24 kHz.

Christop, "nEMO: Dataset of Emotional Speech in Polish", LREC-COLING 2024. Licence: CC BY-NC-SA 4.0. Source:
https://github.com/amu-cai/nEMO. File names, `EB0_anger_1`: actor, emotion, sentence.

| anger | fear | happiness | neutral | sadness | surprise |
|---|---|---|---|---|---|
| 749 | 736 | 749 | 809 | 769 | 669 |

Women: EB0 (539 clips, 27 years old), IC0 (540, 28), KD0 (540, 28), MK0 (450, 23; none surprised); men: KS0 (540, 23),
MP0 (256, 24), SM0 (538, 24), TP0 (539, 26), WR0 (539, 23). Sex and age are those of the release's `task.tsv`.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import entries_below, match_name, require_known
from ser_platform.corpora.facts import Archive, CorpusEntry, Facts
from ser_platform.corpora.manifest import Utterance

RELEASE = "66de9999a8f2f605eb5f64841790aa5cb0877782"  # the commit that the counts above are of
FACTS = Facts(
    title="nEMO, Dataset of Emotional Speech in Polish",
    languages=("pl",),
    clips=4481,
    speakers=9,
    licence="CC-BY-NC-SA-4.0",
    citation="Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024",
    homepage="https://github.com/amu-cai/nEMO",
    # GitHub packs it on demand: its bytes are not fixed, the files in it are.
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
NAME = re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d{1,2})")


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, follows the grammar of this corpus."""
    return NAME.fullmatch(path.stem) is not None


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield what each file under `root` is, ordered by path; second copies are left out."""
    return entries_below(root, _utterance)


def _utterance(path: Path) -> Utterance:
    match = match_name(NAME, path.stem, "nEMO", "EB0_anger_1")
    actor, emotion, sentence = match.groups()
    require_known("emotion", emotion, EMOTIONS)
    require_known("speaker", actor, AGES)
    return Utterance(
        id=path.stem,
        path=path,
        corpus="nemo",
        speaker=f"nemo-{actor}",
        emotion=EMOTIONS[emotion],
        sex="female" if actor in WOMEN else "male",
        age=str(AGES[actor]),
        language="pl",
        sentence=sentence,
    )
