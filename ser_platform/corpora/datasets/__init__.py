"""One adapter for each corpus. `CORPORA` lists them.

In: the file-name grammar, labels, facts and licence of each corpus.
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

# An adapter has FACTS, EMOTIONS (its tokens to emotions, None for what it leaves out), recognises(path within the
# corpus) and utterances(root). A folder is what the first adapter recognises.
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
