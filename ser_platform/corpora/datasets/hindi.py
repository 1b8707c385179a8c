"""IITKGP-SEHSC, simulated emotion Hindi speech corpus: 10 speakers, 15 sentences, 10 sessions, 8 emotions, 16 kHz.

5 men and 5 women, artists of All India Radio, read every sentence in every emotion in every session: 12000 clips, 1500
per emotion, 1200 per speaker.

File names, `3/session2/anger/3.2.anger-01`: speaker, session, emotion, sentence. Spaces and capitals are ignored
(`3. 2. Anger - 1`); a session without a number in the name is that of the folder. The names do not contain the sex of
the speaker. A widespread subset of 8 speakers, 5 sessions and 10 sentences (3200 clips) has the same names, but `sad`
for `sadness` and sentences without a leading zero.
"""

import re
from pathlib import Path

from ser_platform.corpora.datasets.file_names import FileNames, decode, require_known
from ser_platform.corpora.facts import Facts
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

FACTS = Facts(
    title="IITKGP-SEHSC, simulated emotion Hindi speech corpus",
    languages=("hi",),
    clips=12000,
    speakers=10,
    licence="research only, on request",
    citation="Koolagudi et al., IITKGP-SEHSC: Hindi speech corpus for emotion analysis, ICDeCom 2011",
    homepage="https://ieeexplore.ieee.org/document/5738540",
    how_to_get="request it from its authors at IIT Kharagpur, see the paper",
)
EMOTIONS = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "sad": "sadness",
    "sarcastic": "sarcasm",
    "surprise": "surprise",
}
SPEAKERS = range(1, 11)
NAME = re.compile(r"\s*(\d+)\s*\.\s*(session\s*\d*|\d+)\s*\.\s*([a-z]+)\s*-\s*(\d+)\s*", re.IGNORECASE)
SESSION_FOLDER = re.compile(r"session\s*(\d+)", re.IGNORECASE)


def _parse(path: Path, match: re.Match[str]) -> Utterance:
    speaker, session, emotion, sentence = int(match[1]), _find_session(match[2], path), match[3].lower(), int(match[4])
    require_known("speaker", str(speaker), tuple(map(str, SPEAKERS)))
    return Utterance(
        id=f"{speaker}.{session}.{emotion}-{sentence:02d}",
        path=path,
        corpus="hindi",
        speaker=f"hindi-{speaker}",
        emotion=decode("emotion", emotion, EMOTIONS),
        language="hi",
        sentence=f"{sentence:02d}",
        session=str(session),
    )


def _find_session(text: str, path: Path) -> int:
    """Return the session number in a name, else that in the nearest folder named after a session."""
    if digits := re.search(r"\d+", text):
        return int(digits[0])
    for folder in path.parents:
        if match := SESSION_FOLDER.fullmatch(folder.name):
            return int(match[1])
    raise CorpusError(f"{path.stem!r} neither names a session (like 3.2.anger-01) nor is in a folder of one")


NAMES = FileNames(NAME, "IITKGP-SEHSC", "3.2.anger-01", _parse)
recognises, utterances = NAMES.recognises, NAMES.utterances
