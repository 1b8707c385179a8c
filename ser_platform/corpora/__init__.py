"""Corpora: one adapter a corpus, manifests, labels, splits and protocols, lineage, the doctor."""

from types import ModuleType

from ser_platform.corpora import demo, emodb, folder, ravdess, ravdess_song

# An adapter has FACTS, EMOTIONS (its tokens to emotions, None for what it leaves out), recognises(path within the
# corpus) and utterances(root). A folder is what the first adapter recognises.
CORPORA: dict[str, ModuleType] = {
    "demo": demo,
    "ravdess": ravdess,
    "ravdess_song": ravdess_song,
    "emodb": emodb,
    "folder": folder,
}
