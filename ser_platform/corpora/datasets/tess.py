"""TESS, Toronto emotional speech set: 2 women, 200 words in one English sentence, 2800 clips, 7 emotions, 24.4 kHz.

File names, `OAF_back_angry`: speaker, the word after the carrier phrase, emotion (`ps` is pleasant surprise). OAF is 64
years old, YAF 26. There is one clip per word, emotion and speaker: 400 clips per emotion, 200 by each speaker. In the
release, one clip by OAF has the name `OA_bite_neutral`.

The folders (`OAF_angry`, `OAF_Pleasant_surprise`, `YAF_pleasant_surprised`, ...) are ignored. A popular download has
every clip twice, the second time in an inner folder of the same name: the second copy is left out.
"""

import re
from pathlib import Path

from ser_platform.corpora.datasets.file_names import FileNames, decode
from ser_platform.corpora.facts import Facts
from ser_platform.corpora.manifest import Utterance

FACTS = Facts(
    title="TESS, Toronto emotional speech set",
    languages=("en",),
    clips=2800,
    speakers=2,
    licence="CC-BY-NC-ND-4.0",
    citation="Pichora-Fuller & Dupuis, Toronto emotional speech set (TESS), Borealis 2020",
    homepage="https://doi.org/10.5683/SP2/E8H2MF",
    how_to_get="download all files from https://doi.org/10.5683/SP2/E8H2MF (about 270 MB)",
)
EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sadness",
}
AGES = {"OAF": 64, "YAF": 26}
MISSPELT = {"OA": "OAF"}


def _parse(path: Path, match: re.Match[str]) -> Utterance:
    speaker, word, emotion = match[1].upper(), match[2].lower(), match[3].lower()
    speaker = MISSPELT.get(speaker, speaker)
    return Utterance(
        id=f"{speaker}_{word}_{emotion}",
        path=path,
        corpus="tess",
        speaker=f"tess-{speaker}",
        emotion=decode("emotion", emotion, EMOTIONS),
        sex="female",
        age=str(AGES[speaker]),
        language="en",
        sentence=word,
    )


NAMES = FileNames(re.compile(r"(OAF|OA|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE), "TESS", "OAF_back_angry", _parse)
recognises, utterances = NAMES.recognises, NAMES.utterances
