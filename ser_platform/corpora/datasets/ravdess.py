"""RAVDESS, speech part: 24 actors, 2 English sentences, 1440 clips, 8 emotions, 48 kHz.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5), 2018. Licence:
CC BY-NC-SA 4.0. Source: https://zenodo.org/records/1188976. The label is in the file name, `03-01-06-01-02-01-12`:
modality, channel, emotion, intensity, sentence, repetition, actor (odd: male, even: female). Each actor speaks 60
clips: neutral 4, every other emotion 8. The song part is the corpus `ravdess_song`, of the same actors.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from ser_platform.corpora.datasets.file_names import entries_below, match_name, require_known
from ser_platform.corpora.facts import Archive, CorpusEntry, ExcludedFile, Facts
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


def recognises(path: PurePath) -> bool:
    """Tell whether a file, by its path within the corpus, is RAVDESS's speech."""
    match = NAME.fullmatch(path.stem)
    return match is not None and CHANNELS.get(match[2]) == "speech"


def utterances(root: Path) -> Iterator[CorpusEntry]:
    """Yield what each file under `root` is, ordered by path; song is left out."""
    return entries_below(root, partial(parse_utterance, corpus="ravdess", channel="speech"))


def parse_utterance(path: Path, corpus: str, channel: str, language: str = "en") -> Utterance | ExcludedFile:
    """Return the utterance that a file name describes, left out where it is of another channel than `channel`.

    Speakers are named after `ravdess` where the actors are: speech and song share them.

    Raises:
        CorpusError: the name is outside the grammar.
    """
    match = match_name(NAME, path.stem, "RAVDESS", "03-01-06-01-02-01-12")
    _, channel_code, emotion, intensity, sentence, repetition, actor = match.groups()
    require_known("channel", channel_code, CHANNELS)
    require_known("emotion", emotion, EMOTIONS)
    require_known("intensity", intensity, INTENSITIES)
    if CHANNELS[channel_code] != channel:
        return ExcludedFile(path, CHANNELS[channel_code])
    return Utterance(
        id=path.stem,
        path=path,
        corpus=corpus,
        speaker=f"{corpus.partition('_')[0]}-{actor}",
        emotion=EMOTIONS[emotion],
        sex="male" if int(actor) % 2 else "female",
        language=language,
        intensity=INTENSITIES[intensity],
        sentence=sentence,
        repetition=repetition,
    )
