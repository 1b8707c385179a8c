"""EmoDB, the Berlin Database of Emotional Speech: 10 actors, 10 German sentences, 535 clips, 7 emotions, 16 kHz.

Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss, "A database of German emotional speech", Interspeech 2005. Licence:
CC0-1.0. Source: http://emodb.bilderbar.info. File names, `03a01Fa`: speaker (2), sentence (3), emotion, version.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ser_platform.corpora.audio import AUDIO_SUFFIXES
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

CLIPS, SPEAKERS = 535, 10
EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
MALE = frozenset({"03", "10", "11", "12", "15"})
FEMALE = frozenset({"08", "09", "13", "14", "16"})
NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


def recognises(stem: str) -> bool:
    """Tell whether a file name (without suffix) follows the grammar of this corpus."""
    return NAME.fullmatch(stem) is not None


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every utterance under `root`, ordered by path.

    Raises:
        CorpusError: a file name is outside the grammar.
    """
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES):
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError(f"{path}: {path.stem!r} is no EmoDB name (like 03a01Fa)")
        speaker, sentence, letter, version = match.groups()
        if letter not in EMOTIONS:
            raise CorpusError(f"{path}: unknown emotion {letter!r}; valid are {', '.join(EMOTIONS)}")
        if speaker not in MALE | FEMALE:
            raise CorpusError(f"{path}: unknown speaker {speaker!r}; valid are {', '.join(sorted(MALE | FEMALE))}")
        yield Utterance(
            id=path.stem,
            path=path,
            corpus="emodb",
            speaker=f"emodb-{speaker}",
            emotion=EMOTIONS[letter],
            sex="male" if speaker in MALE else "female",
            language="de",
            sentence=sentence,
            repetition=version,
        )
