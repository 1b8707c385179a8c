"""ESD, Emotional Speech Dataset: 10 Mandarin and 10 English speakers, 350 sentences each, 35000 clips, 5 emotions.

Paths, `0001/Angry/0001_000351`: speaker, emotion, number; a folder `train`, `evaluation` or `test` may follow the
emotion. Each speaker reads the same 350 sentences of the language in every emotion: 7000 clips per emotion, 1750 per
speaker. The numbers run on from emotion to emotion: neutral 1 to 350, anger 351 to 700, then happiness, sadness,
surprise; 0001_000351 has the text of 0001_000001. The publishers' parts are by sentence (1 to 20 evaluation, 21 to 50
test, the rest train), so every speaker is in all three parts.

Speakers 0001 to 0010 are Mandarin (men: 0004, 0005, 0006, 0008, 0010), 0011 to 0020 English (men: 0011 to 0014, 0020),
as the ReadMe of the release states. A clip without a folder named after an emotion has its emotion in the speaker's
table `0001.txt` (clip, text, emotion, with tabs between them). The tables of the release have four encodings.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import FileNames
from ser_platform.corpora.facts import CorpusEntry, Facts
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import CorpusError

FACTS = Facts(
    title="ESD, Emotional Speech Dataset",
    languages=("zh", "en"),
    clips=35000,
    speakers=20,
    licence="research only, a signed form",
    citation="Zhou et al., Emotional voice conversion: Theory, databases and ESD, Speech Communication 137, 2022",
    homepage="https://github.com/HLTSingapore/Emotional-Speech-Data",
    how_to_get="sign the licence form and download it, see https://github.com/HLTSingapore/Emotional-Speech-Data",
)
# The names of the folders in lower case, then the labels in the tables of the Mandarin speakers.
EMOTIONS = {
    "angry": "anger",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
    "生气": "anger",
    "愤怒": "anger",
    "快乐": "happiness",
    "开心": "happiness",
    "中立": "neutral",
    "伤心": "sadness",
    "惊喜": "surprise",
    "惊讶": "surprise",
}
SPEAKERS = range(1, 21)
ENGLISH = range(11, 21)
MEN = frozenset({4, 5, 6, 8, 10, 11, 12, 13, 14, 20})
SENTENCES = 350  # per emotion
NUMBERS = range(1, 5 * SENTENCES + 1)
DEV_SENTENCES, TEST_SENTENCES = range(1, 21), range(21, 51)  # sentence numbers
NAME = re.compile(r"(\d{4})_(\d{6})")
ENCODINGS = (
    "utf-8-sig",
    "gb18030",
    "latin-1",
)  # tried in this order, after UTF-16, which begins with a mark; latin-1 decodes any bytes
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def recognises(path: PurePath) -> bool:
    """Return whether a path within the corpus has an ESD name with a known speaker."""
    match = NAME.fullmatch(path.stem)
    return match is not None and int(match[1]) in SPEAKERS


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield the entry of each file under `root`, ordered by path, without second copies."""
    return NAMES.utterances(root, corpus_root=root, table_emotions=_read_tables(root))


def _parse(path: Path, match: re.Match[str], corpus_root: Path, table_emotions: Mapping[str, str]) -> Utterance:
    speaker, number = int(match[1]), int(match[2])
    if speaker not in SPEAKERS:
        raise CorpusError(f"unknown speaker {match[1]!r}; valid are 0001 to 0020")
    if number not in NUMBERS:
        raise CorpusError(f"unknown number {match[2]!r}; valid are 000001 to 001750")
    sentence = (number - 1) % SENTENCES + 1
    language = "en" if speaker in ENGLISH else "zh"
    return Utterance(
        id=path.stem,
        path=path,
        corpus="esd",
        speaker=f"esd-{match[1]}",
        emotion=_find_emotion(path, corpus_root, table_emotions),
        sex="male" if speaker in MEN else "female",
        language=language,
        sentence=f"{language}-{sentence:03d}",
        part="dev" if sentence in DEV_SENTENCES else "test" if sentence in TEST_SENTENCES else "train",
    )


def _find_emotion(path: Path, root: Path, table_emotions: Mapping[str, str]) -> str:
    """Return the emotion of the nearest folder that is named after one, else of the clip's line in a table."""
    for folder in reversed(path.relative_to(root).parent.parts):
        if folder.lower() in EMOTIONS:
            return EMOTIONS[folder.lower()]
    token = table_emotions.get(path.stem)
    valid = f"valid are {', '.join(EMOTIONS)}"
    if token is None:
        table = f"{path.stem[:4]}.txt"
        raise CorpusError(f"neither a folder nor a line of {table} names the emotion of {path.stem!r}; {valid}")
    if token.lower() not in EMOTIONS:
        raise CorpusError(f"unknown emotion {token!r}; {valid}")
    return EMOTIONS[token.lower()]


def _read_tables(root: Path) -> dict[str, str]:
    """Return the emotion of each clip in the speakers' tables under `root`; lines without three columns are skipped."""
    tokens = {}
    for path in sorted(root.rglob("[0-9][0-9][0-9][0-9].txt")):
        for line in _decode_text(path.read_bytes()).splitlines():
            columns = [column.strip() for column in line.split("\t")]
            if len(columns) >= 3 and NAME.fullmatch(columns[0]):
                tokens[columns[0]] = columns[-1]
    return tokens


def _decode_text(content: bytes) -> str:
    if content.startswith(UTF_16_MARKS):
        return content.decode("utf-16")
    for encoding in ENCODINGS[:-1]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode(ENCODINGS[-1])


NAMES = FileNames(NAME, "ESD", "0001_000351", _parse)
