"""The embedded corpus: synthetic speech in RAVDESS's shape, spoken by eSpeak NG under `SER_HOME` on first use.

12 voices x 8 emotions x 2 sentences x 2 repetitions = 384 clips. It shows that the platform works; it says nothing
about how well a model recognises people. `synthetic.demo_corpus` holds the prosody rules and their sources.
"""

from pathlib import Path, PurePath

from ser_platform.corpora.datasets import ravdess
from ser_platform.corpora.facts import Facts
from ser_platform.settings import home

FACTS = Facts(
    title="demo, synthetic speech by eSpeak NG",
    languages=("en",),
    clips=384,
    speakers=12,
    licence="made on your machine; eSpeak NG is GPL-3.0",
    citation="none: it says nothing about people",
    homepage="https://github.com/espeak-ng/espeak-ng",
    how_to_get="spoken on first use",
)
EMOTIONS = ravdess.EMOTIONS


def recognises(path: PurePath) -> bool:
    """Return False: a folder of RAVDESS names is RAVDESS, unless `--as demo` says otherwise."""
    del path
    return False


def ensure_corpus() -> Path:
    """Return the folder of the spoken corpus, speaking it first where it is missing."""
    from ser_platform.corpora.synthetic.demo_corpus import (  # scipy's second is for those who speak
        RECIPE_VERSION,
        synthesise_corpus,
    )

    return synthesise_corpus(home() / "corpora" / f"demo-v{RECIPE_VERSION}")


utterances = ravdess.name_files("demo", "speech").utterances
