"""MELD, Multimodal EmotionLines Dataset: 13708 utterances of the television series Friends, 304 speakers, 7 emotions.

Clips, `train_splits/dia0_utt0.mp4`: dialogue and utterance, numbered from 0 in each part; the labels are in
`train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`. The folders are `train_splits`, `dev_splits_complete`
and `output_repeated_splits_test`; other folders with train, dev or test in their names and files in the formats of
`AUDIO_SUFFIXES` are valid too. mp4 is read with ffmpeg. Clips have two or six channels.

| | neutral | joy | surprise | anger | sadness | disgust | fear | all |
|---|---|---|---|---|---|---|---|---|
| train | 4710 | 1743 | 1205 | 1109 | 683 | 271 | 268 | 9989 |
| dev | 470 | 163 | 150 | 153 | 111 | 22 | 40 | 1109 |
| test | 1256 | 402 | 281 | 345 | 208 | 68 | 50 | 2610 |

Clips: Joey 2070, Ross 2048, Rachel 1955, Phoebe 1797, Monica 1782, Chandler 1763; then Janice with 89. These six
speakers are in every part. `All`, `Both` and `Joey and Ross` are separate speakers, as in the tables.

Errors of the release: some clips are in no table (left out); some listed clips are missing (dev dia110_utt7) or corrupt
(train dia125_utt3, which is refused when it is read); the test part contains some clips twice, and
`final_videos_testdia0_utt0` is the cut that fits the text; tables from before 2020 have control characters for
apostrophes (Windows-1252 decoded as Latin-1).
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

from ser_platform.corpora.audio.ffmpeg import HOW_TO_GET_FFMPEG, VIDEO_SUFFIXES, require_ffmpeg
from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, list_audio_files
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Facts, Misfit
from ser_platform.corpora.manifest import Utterance, speaker_name
from ser_platform.errors import CorpusError

FACTS = Facts(
    title="MELD, Multimodal EmotionLines Dataset",
    languages=("en",),
    clips=13708,
    speakers=304,
    licence="GPL-3.0",
    citation="Poria et al., MELD: A multimodal multi-party dataset for emotion recognition in conversations, ACL 2019",
    homepage="https://affective-meld.github.io",
    how_to_get="unpack http://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz (11 GB) and the 3 archives in it",
)
EMOTIONS = {
    "neutral": "neutral",
    "joy": "happiness",
    "surprise": "surprise",
    "anger": "anger",
    "sadness": "sadness",
    "disgust": "disgust",
    "fear": "fear",
}
PARTS = ("train", "dev", "test")
SEX = {
    "chandler": "male",
    "joey": "male",
    "ross": "male",
    "monica": "female",
    "phoebe": "female",
    "rachel": "female",
}
NAME = re.compile(r"(final_videos_test)?dia(\d+)_utt(\d+)")
PART = re.compile(rf"(?:.*_)?({'|'.join(PARTS)})(?:_.*)?", re.IGNORECASE)
TABLE = re.compile(rf"({'|'.join(PARTS)})_sent_emo\.csv")
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "Season", "Episode")
# From the control characters of Latin-1 to the characters that Windows-1252 has in their place.
CONTROLS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}

ClipKey = tuple[str, int, int]  # part, dialogue, utterance
RowsByClip = Mapping[ClipKey, Mapping[str, str]]


def recognises(path: PurePath) -> bool:
    """Return whether a path within the corpus has a MELD name."""
    return NAME.fullmatch(path.stem) is not None


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield the entry of each file under `root`, ordered by path, then the listed clips without a file.

    Raises:
        CorpusError: a table lacks a column, or a number in it is invalid.
        UserError: there are mp4 files, and ffmpeg is not on PATH.
    """
    paths = list_audio_files(root, AUDIO_SUFFIXES | VIDEO_SUFFIXES)
    tables = _find_tables(root)
    chosen = _choose_files(paths, root)
    if any(path.suffix.lower() in VIDEO_SUFFIXES for path in chosen.values()):
        require_ffmpeg(f"mp4 files, like MELD's, need {HOW_TO_GET_FFMPEG}")
    rows = {key: row for part, table in tables.items() for key, row in _read_rows(part, table).items()}
    for path in paths:
        yield _make_entry(path, root, tables, rows, chosen)
    for key in sorted(rows.keys() - chosen.keys()):
        part, dialogue, utterance = key
        missing = tables[part].parent / part / f"dia{dialogue}_utt{utterance}"
        yield ExcludedFile(missing, f"listed in {tables[part].name} without a clip")


def _make_entry(
    path: Path, root: Path, tables: Mapping[str, Path], rows: RowsByClip, chosen: Mapping[ClipKey, Path]
) -> CorpusEntry:
    if not recognises(path):
        return Misfit(path, f"{path.stem!r} is no MELD name (like dia0_utt0)")
    key = _parse_clip_key(path, root)
    if key is None:
        return Misfit(path, f"is in no folder named after its part; valid are {', '.join(PARTS)}")
    if key[0] not in tables:
        return Misfit(path, f"there is no table of labels {key[0]}_sent_emo.csv under {root}")
    if chosen[key] != path:
        return ExcludedFile(path, "another cut or format of a clip")
    if key not in rows:
        return ExcludedFile(path, f"not listed in {tables[key[0]].name}")
    return _make_utterance(path, key, rows[key])


def _make_utterance(path: Path, key: ClipKey, row: Mapping[str, str]) -> Utterance | Misfit:
    part, dialogue, utterance = key
    token = row["Emotion"].strip().lower()
    if token not in EMOTIONS:
        return Misfit(path, f"unknown emotion {row['Emotion']!r}; valid are {', '.join(EMOTIONS)}")
    speaker = "-".join(row["Speaker"].lower().split())
    return Utterance(
        id=f"{part}/dia{dialogue}_utt{utterance}",
        path=path,
        corpus="meld",
        speaker=speaker_name("meld", speaker),
        emotion=EMOTIONS[token],
        sex=SEX.get(speaker),
        language="en",
        sentence=" ".join(row["Utterance"].split()) or None,
        dialogue=f"{part}/dia{dialogue}",
        session=f"s{row['Season'].strip().zfill(2)}e{row['Episode'].strip().zfill(2)}",
        part=part,
    )


def _parse_clip_key(path: Path, root: Path) -> ClipKey | None:
    """Return the key of a file; None where its name is no MELD name or no folder names the part."""
    match = NAME.fullmatch(path.stem)
    folders = reversed(path.relative_to(root).parent.parts)
    parts = [found[1].lower() for folder in folders if (found := PART.fullmatch(folder))]
    return (parts[0], int(match[2]), int(match[3])) if match and parts else None


def _choose_files(paths: Iterable[Path], root: Path) -> dict[ClipKey, Path]:
    """Return the file of each clip, with the final cut preferred to others, and audio to video."""
    chosen: dict[ClipKey, Path] = {}
    for path in sorted(paths, key=_rank_file):
        key = _parse_clip_key(path, root)
        if key is not None:
            chosen.setdefault(key, path)
    return chosen


def _rank_file(path: Path) -> tuple[bool, bool]:
    return not path.stem.startswith("final"), path.suffix.lower() in VIDEO_SUFFIXES


def _find_tables(root: Path) -> dict[str, Path]:
    """Return the table of each part that has one; of several tables, the first by path."""
    found: dict[str, Path] = {}
    for path in list_audio_files(root, {".csv"}):
        if match := TABLE.fullmatch(path.name):
            found.setdefault(match[1], path)
    return found


def _read_rows(part: str, table: Path) -> dict[ClipKey, dict[str, str]]:
    content = table.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    reader = csv.DictReader(text.translate(CONTROLS).splitlines(keepends=True), restval="")
    if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        raise CorpusError(f"{table} lacks the columns {', '.join(lacking)}")
    try:
        return {(part, int(row["Dialogue_ID"]), int(row["Utterance_ID"])): row for row in reader}
    except ValueError as error:
        raise CorpusError(
            f"{table} line {reader.line_num}: Dialogue_ID and Utterance_ID must be whole numbers"
        ) from error
