"""RAVDESS, song part: 23 of its 24 actors (18 is missing), 2 sentences sung, 1012 clips, 6 emotions, 48 kHz.

Source, licence, citation and file names are those of `ravdess`; the channel is 02. There are 44 clips of each actor: 4
neutral, 8 each of calm, happiness, sadness, anger and fear. An actor has the same speaker name as in `ravdess`.
"""

from dataclasses import replace
from functools import partial

from ser_platform.corpora.datasets import ravdess
from ser_platform.corpora.facts import Archive

FACTS = replace(
    ravdess.FACTS,
    title="RAVDESS, song",
    clips=1012,
    speakers=23,
    archives=(
        Archive(  # size and MD5 from the list of files of the record
            "https://zenodo.org/records/1188976/files/Audio_Song_Actors_01-24.zip?download=1",
            225_505_317,
            "md5:5411230427d67a21e18aa4d466e6d1b9",
        ),
    ),
)
EMOTIONS = {code: ravdess.EMOTIONS[code] for code in ("01", "02", "03", "04", "05", "06")}

recognises = partial(ravdess.recognises_channel, channel="song")
utterances = ravdess.name_files("ravdess_song", "song").utterances
