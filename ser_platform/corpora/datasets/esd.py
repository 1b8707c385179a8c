"""ESD, Emotional Speech Dataset: 10 Mandarin and 10 English speakers, 350 sentences each, 35000 clips, 5 emotions.

Zhou, Sisman, Liu & Li, "Emotional voice conversion: Theory, databases and ESD", Speech Communication 137, 2022.
Licence: research only, a signed form. Source: https://github.com/HLTSingapore/Emotional-Speech-Data. 16 kHz.

Paths, `0001/Angry/0001_000351`, with or without `train`, `evaluation`, `test` between: speaker, emotion, number. Each
speaker says the same 350 sentences of the language in every emotion: 7000 clips an emotion, 1750 a speaker. Sentences
are numbered through the emotions: neutral 1 to 350, anger 351 to 700, happiness, sadness, surprise; 0001_000351 is the
first sentence again. The publishers' parts go by sentence (1 to 20 evaluation, 21 to 50 test, the rest train), so that
every speaker is in all three.

Mandarin: 0001 to 0010, of these 0004, 0005, 0006, 0008 and 0010 men; English: 0011 to 0020, of these 0011 to 0014 and
0020 men (the release's ReadMe). Where no folder names the emotion, the table of the speaker does (`0001.txt`: clip,
text, emotion; tabs), which the release holds in four encodings.
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
# The folders' names in lower case, then what the tables of Mandarin speakers say.
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
SENTENCES = 350  # an emotion
NUMBERS = range(1, 5 * SENTENCES + 1)
DEV_SENTENCES, TEST_SENTENCES = range(1, 21), range(21, 51)  # by sentence
NAME = re.compile(r"(\d{4})_(\d{6})")
ENCODINGS = ("utf-8-sig", "gb18030", "latin-1")  # apart from UTF-16, which says so itself; the last takes anything
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, follows the grammar of this corpus."""
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
    """Return the last column of the speakers' tables under `root`, by clip; lines without three columns are skipped."""
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
