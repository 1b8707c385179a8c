"""demo: synthetic speech with RAVDESS's file names, synthesised with eSpeak NG under `SER_HOME` on first use.

12 voices x 8 emotions x 2 sentences x 2 repetitions = 384 clips. A score on it shows that the platform works, not how
well a model recognises the emotions of people. The prosody rules and their sources are in `synthetic.demo_corpus`.
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
    citation="none: it is no recording of people",
    homepage="https://github.com/espeak-ng/espeak-ng",
    how_to_get="synthesised on first use",
    is_synthetic=True,
)
EMOTIONS = ravdess.EMOTIONS


def recognises(path: PurePath) -> bool:
    """Return False: a folder with RAVDESS names is read as RAVDESS, unless `--as demo` is given."""
    del path
    return False


def ensure_corpus() -> Path:
    """Return the folder of the corpus, after synthesising the clips where they are missing."""
    from ser_platform.corpora.synthetic.demo_corpus import (  # imports SciPy, which takes a second
        RECIPE_VERSION,
        synthesise_corpus,
    )

    return synthesise_corpus(home() / "corpora" / f"demo-v{RECIPE_VERSION}")


utterances = ravdess.name_files("demo", "speech").utterances
