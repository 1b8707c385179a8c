"""The embedded corpus: synthetic speech in RAVDESS's shape, spoken by eSpeak NG under `SER_HOME` on first use.

12 voices x 8 emotions x 2 sentences x 2 repetitions = 384 clips. It shows that the platform works; it says nothing
about how well a model recognises people. `demo_voice` holds the prosody rules and their sources.
"""

from collections.abc import Iterator
from pathlib import Path

from ser_platform.corpora import ravdess
from ser_platform.corpora.demo_voice import VERSION, speak_corpus
from ser_platform.corpora.manifest import Utterance
from ser_platform.settings import home

CLIPS, SPEAKERS = 384, 12
EMOTIONS = ravdess.EMOTIONS


def recognises(stem: str) -> bool:
    """Return False: a folder of RAVDESS names is RAVDESS, unless `--as demo` says otherwise."""
    del stem
    return False


def speak() -> Path:
    """Return the folder of the spoken corpus, speaking it first where it is missing."""
    return speak_corpus(home() / "corpora" / f"demo-v{VERSION}")


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every utterance under `root`, ordered by path."""
    return ravdess.utterances(root, corpus="demo")
