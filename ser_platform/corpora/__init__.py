"""Corpora: one adapter a corpus, manifests, speaker-disjoint splits."""

from types import ModuleType

from ser_platform.corpora import demo, emodb, ravdess

# An adapter has CLIPS, SPEAKERS, EMOTIONS, recognises(stem) and utterances(root).
CORPORA: dict[str, ModuleType] = {"demo": demo, "ravdess": ravdess, "emodb": emodb}
