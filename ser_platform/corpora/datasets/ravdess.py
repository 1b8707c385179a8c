"""RAVDESS, speech part: 24 actors, 2 English sentences, 1440 clips, 8 emotions, 48 kHz.

File names, `03-01-06-01-02-01-12`: modality, channel, emotion, intensity, sentence, repetition, actor (odd: male, even:
female). There are 60 clips of each actor: 4 neutral, 8 of each other emotion. The song part is the corpus
`ravdess_song`, by the same actors.
"""

import re
from functools import partial
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import FileNames, decode
from ser_platform.corpora.facts import Archive, ExcludedFile, Facts
from ser_platform.corpora.manifest import Utterance

FACTS = Facts(
    title="RAVDESS, speech",
    languages=("en",),
    clips=1440,
    speakers=24,
    licence="CC-BY-NC-SA-4.0",
    citation="Livingstone & Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 2018",
    homepage="https://zenodo.org/records/1188976",
    archives=(
        Archive(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            208_468_073,
            "md5:bc696df654c87fed845eb13823edef8a",
        ),
    ),
    how_to_get="Audio_Speech_Actors_01-24.zip, for song Audio_Song_Actors_01-24.zip, of https://zenodo.org/records/1188976",
)
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
CHANNELS = {"01": "speech", "02": "song"}
NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def _parse(path: Path, match: re.Match[str], corpus: str, channel: str) -> Utterance | ExcludedFile:
    _, channel_code, emotion_code, intensity_code, sentence, repetition, actor = match.groups()
    found_channel = decode("channel", channel_code, CHANNELS)
    emotion = decode("emotion", emotion_code, EMOTIONS)
    intensity = decode("intensity", intensity_code, INTENSITIES)
    if found_channel != channel:
        return ExcludedFile(path, found_channel)
    return Utterance(
        id=path.stem,
        path=path,
        corpus=corpus,
        speaker=f"{corpus.partition('_')[0]}-{actor}",  # speech and song share their actors
        emotion=emotion,
        sex="male" if int(actor) % 2 else "female",
        language="en",
        intensity=intensity,
        sentence=sentence,
        repetition=repetition,
    )


def name_files(corpus: str, channel: str) -> FileNames:
    """Return the file names of a corpus with RAVDESS names; files of another channel than `channel` are left out."""
    parse = partial(_parse, corpus=corpus, channel=channel)
    return FileNames(NAME, "RAVDESS", "03-01-06-01-02-01-12", parse)


def recognises_channel(path: PurePath, channel: str) -> bool:
    """Return whether a path within the corpus names a RAVDESS clip of `channel`, `speech` or `song`."""
    match = NAME.fullmatch(path.stem)
    return match is not None and CHANNELS.get(match[2]) == channel


recognises = partial(recognises_channel, channel="speech")
utterances = name_files("ravdess", "speech").utterances
