"""IEMOCAP, interactive emotional dyadic motion capture database: 10 actors in 5 sessions, 10039 turns, 16 kHz.

Clips, `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav`: session, sex of the actor with the markers,
dialogue (`impro`: improvised on a topic, `script`: acted from a play), sex of the speaker (the last F or M), number of
the turn. Each session is a conversation between a woman and a man; `iemocap-1F` is the woman of session 1.

Labels, `Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`: for each turn the majority of three or more raters, then
one line per rater (`votes` in the manifest): `C-` emotion, `A-` valence, activation, dominance on scales of 1 to 5.
The raters F and M are the actors themselves. Texts are in `dialog/transcriptions`. Recordings of whole dialogues are
left out, and so are turns without a majority (`xxx`) or with a majority for another emotion (`oth`): 7529 remain.

| neu | fru | ang | sad | exc | hap | sur | fea | dis | oth | xxx |
|---|---|---|---|---|---|---|---|---|---|---|
| 1708 | 1849 | 1103 | 1084 | 1041 | 595 | 107 | 40 | 2 | 3 | 2507 |

Turns by session: 1819, 1811, 2136, 2103, 2170.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

from ser_platform.corpora.audio.reader import list_audio_files
from ser_platform.corpora.datasets.duplicates import drop_duplicates
from ser_platform.corpora.datasets.file_names import require_known
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Facts, read_entries
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

FACTS = Facts(
    title="IEMOCAP, interactive emotional dyadic motion capture database",
    languages=("en",),
    clips=10039,
    speakers=10,
    licence="research only, on request",
    citation="Busso et al., IEMOCAP: Interactive emotional dyadic motion capture database, LRE 42, 2008",
    homepage="https://sail.usc.edu/iemocap",
    how_to_get="request it at https://sail.usc.edu/iemocap/iemocap_release.htm",
)
EMOTIONS = {
    "neu": "neutral",
    "fru": "frustration",
    "ang": "anger",
    "sad": "sadness",
    "exc": "excitement",
    "hap": "happiness",
    "sur": "surprise",
    "fea": "fear",
    "dis": "disgust",
    "oth": None,
    "xxx": None,
}
REASONS = {"oth": "of another emotion (oth)", "xxx": "without a majority of raters (xxx)"}
DIALOGUE = re.compile(r"Ses0[1-5][FM]_(?:impro|script)\d\d(?:_\d)?[a-z]?")
NAME = re.compile(rf"({DIALOGUE.pattern})_([FM])(\d\d\d)")
TURN = re.compile(r"\[[\d. -]+\]\t(\w+)\t(\w+)\t\[")  # [6.2901 - 8.2357]  Ses01F_impro01_F000  neu  [2.5, 2.5, 2.5]
TRANSCRIPT_LINE = re.compile(r"(\w+) \[[\d. -]+\]:\s*(.*)")  # Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
RATER = re.compile(r"[AC]-\w+:")


@dataclass
class Turn:
    """The labels and the text of one turn."""

    emotion: str
    votes: list[str]
    transcript: str | None = None


def recognises(path: PurePath) -> bool:
    """Return whether a path within the corpus has the name of an IEMOCAP turn."""
    return NAME.fullmatch(path.stem) is not None


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield the entry of each file under `root`, ordered by path, then the listed turns without a file."""
    paths, turns = list_audio_files(root), _read_turns(root)
    yield from drop_duplicates(read_entries(paths, partial(_make_entry, turns=turns)))
    for name in sorted(turns.keys() - {path.stem for path in paths}):
        yield ExcludedFile(root / name, "listed in an evaluation without a clip")


def _make_entry(path: Path, turns: Mapping[str, Turn]) -> Utterance | ExcludedFile:
    match = NAME.fullmatch(path.stem)
    if match is None:
        if DIALOGUE.fullmatch(path.stem):
            return ExcludedFile(path, "recording of a whole dialogue")
        raise CorpusError(f"{path.stem!r} is no IEMOCAP name (like Ses01F_impro01_M000)")
    dialogue, speaker, _ = match.groups()
    turn = turns.get(path.stem)
    if turn is None:
        raise CorpusError(f"no line of EmoEvaluation/{dialogue}.txt names the emotion of {path.stem!r}")
    require_known("emotion", turn.emotion, EMOTIONS)
    emotion = EMOTIONS[turn.emotion]
    if emotion is None:
        return ExcludedFile(path, REASONS[turn.emotion])
    session = dialogue[len("Ses0")]
    return Utterance(
        id=path.stem,
        path=path,
        corpus="iemocap",
        speaker=f"iemocap-{session}{speaker}",
        emotion=emotion,
        sex="female" if speaker == "F" else "male",
        language="en",
        sentence=turn.transcript,
        dialogue=dialogue,
        session=session,
        votes=" | ".join(turn.votes) or None,
    )


def _read_turns(root: Path) -> dict[str, Turn]:
    """Return the turns in the evaluations by name, with their texts from the transcriptions.

    The files of single raters are one folder deeper (`EmoEvaluation/Categorical`, ...) and are not read.
    """
    turns: dict[str, Turn] = {}
    texts = list_audio_files(root, {".txt"})
    for path in (path for path in texts if path.parent.name == "EmoEvaluation"):
        turn = None
        for line in path.read_text(encoding="latin-1").splitlines():
            if match := TURN.match(line):
                turn = turns[match[1]] = Turn(match[2], [])
            elif turn is not None and RATER.match(line):
                turn.votes.append(" ".join(line.split()))
    for path in (path for path in texts if path.parent.name == "transcriptions"):
        for line in path.read_text(encoding="latin-1").splitlines():
            if (match := TRANSCRIPT_LINE.match(line)) and match[1] in turns:
                turns[match[1]].transcript = match[2].strip() or None
    return turns
