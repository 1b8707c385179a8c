"""SAVEE, Surrey Audio-Visual Expressed Emotion: 4 men, 480 English clips, 7 emotions, 44.1 kHz.

File names, `a01` in a folder of the speaker, or `DC_a01`: speaker (DC, JE, JK, KL; 27 to 31 years old), emotion (one
letter or two), sentence of that emotion. Each speaker reads 30 sentences neutrally and 15 in each other emotion: 120
clips per speaker, 60 per emotion, 120 neutral. The sentences are from TIMIT; most differ between emotions, so the name
of a sentence includes the emotion (`a01`).
"""

import re
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import FileNames, decode, require_known
from ser_platform.corpora.facts import Facts
from ser_platform.corpora.manifest import Utterance

FACTS = Facts(
    title="SAVEE, Surrey Audio-Visual Expressed Emotion",
    languages=("en",),
    clips=480,
    speakers=4,
    licence="research only, after registration",
    citation="Haq & Jackson, Multimodal emotion recognition, in: Machine Audition, IGI Global 2010",
    homepage="http://kahlan.eps.surrey.ac.uk/savee",
    how_to_get="register at http://kahlan.eps.surrey.ac.uk/savee/Register.html and download the audio files",
)
EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
NAME = re.compile(rf"(?:({'|'.join(SPEAKERS)})_?)?([a-z]{{1,2}})(\d\d)")


def recognises(path: PurePath) -> bool:
    """Return whether a path within the corpus has a SAVEE name, with a speaker in the name or the folder."""
    match = NAME.fullmatch(path.stem)
    return match is not None and (match[1] is not None or path.parent.name in SPEAKERS)


def _parse(path: Path, match: re.Match[str]) -> Utterance:
    speaker, letters, number = match[1] or path.parent.name, match[2], match[3]
    require_known("speaker", speaker, SPEAKERS, f", the folder of {path.stem}")
    return Utterance(
        id=f"{speaker}_{letters}{number}",
        path=path,
        corpus="savee",
        speaker=f"savee-{speaker}",
        emotion=decode("emotion", letters, EMOTIONS),
        sex="male",
        language="en",
        sentence=f"{letters}{number}",
    )


utterances = FileNames(NAME, "SAVEE", "DC_a01, or a01 in the folder DC", _parse).utterances
