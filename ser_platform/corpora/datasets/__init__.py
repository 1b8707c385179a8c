"""One adapter for each corpus. `CORPORA` lists them.

In: the file names, labels, facts and licence of each corpus.
Not in: decoding audio (`corpora.audio`), downloading (`corpora.download`).
"""

from types import ModuleType

from ser_platform.corpora.datasets import (
    crema_d,
    demo,
    emodb,
    esd,
    folder,
    hindi,
    iemocap,
    meld,
    nemo,
    ravdess,
    ravdess_song,
    savee,
    tess,
)

# Each adapter defines:
#   FACTS: facts.Facts
#   EMOTIONS: from the corpus's codes to emotions, None for codes whose clips are left out
#   recognises(path): whether the path of a file within the corpus fits this corpus
#   utterances(root): yields the entry of each file under `root`, ordered by path
# A folder belongs to the first adapter in this order that recognises most of its files.
CORPORA: dict[str, ModuleType] = {
    "demo": demo,
    "ravdess": ravdess,
    "ravdess_song": ravdess_song,
    "crema_d": crema_d,
    "tess": tess,
    "savee": savee,
    "emodb": emodb,
    "meld": meld,
    "iemocap": iemocap,
    "hindi": hindi,
    "esd": esd,
    "nemo": nemo,
    "folder": folder,
}
