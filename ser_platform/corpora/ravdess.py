"""RAVDESS, speech part: 24 actors, 2 English sentences, 1440 clips, 8 emotions, 48 kHz.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5), 2018. Licence:
CC BY-NC-SA 4.0. Source: https://zenodo.org/records/1188976. The label is in the file name, `03-01-06-01-02-01-12`:
modality, channel, emotion, intensity, sentence, repetition, actor (odd: male, even: female).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ser_platform.corpora.audio import AUDIO_SUFFIXES
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

CLIPS, SPEAKERS = 1440, 24
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITIES = {"01": "normal", "02": "strong"}
SPEECH = "01"
NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def recognises(stem: str) -> bool:
    """Tell whether a file name (without suffix) follows the grammar of this corpus."""
    return NAME.fullmatch(stem) is not None


def utterances(root: Path, corpus: str = "ravdess", language: str = "en") -> Iterator[Utterance]:
    """Yield every speech utterance under `root`, ordered by path; song is left out.

    Raises:
        CorpusError: a file name is outside the grammar.
    """
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES):
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError(f"{path}: {path.stem!r} is no RAVDESS name (like 03-01-06-01-02-01-12)")
        _, channel, emotion, intensity, sentence, repetition, actor = match.groups()
        if emotion not in EMOTIONS:
            raise CorpusError(f"{path}: unknown emotion {emotion!r}; valid are {', '.join(EMOTIONS)}")
        if intensity not in INTENSITIES:
            raise CorpusError(f"{path}: unknown intensity {intensity!r}; valid are {', '.join(INTENSITIES)}")
        if channel != SPEECH:
            continue
        yield Utterance(
            id=path.stem,
            path=path,
            corpus=corpus,
            speaker=f"{corpus}-{actor}",
            emotion=EMOTIONS[emotion],
            sex="male" if int(actor) % 2 else "female",
            language=language,
            intensity=INTENSITIES[intensity],
            sentence=sentence,
            repetition=repetition,
        )
