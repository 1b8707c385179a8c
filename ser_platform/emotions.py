"""The emotions that corpora are labelled with, under one name each.

The order is the order of the label set everywhere: targets, logits, confusion matrices, bundles.
"""

from collections.abc import Iterable

from ser_platform.errors import UnknownChoice

EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise", "boredom")


def label_set(emotions: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct `emotions` in canonical order.

    Raises:
        UnknownChoice: an emotion is not one of `EMOTIONS`.
    """
    found = set(emotions)
    for emotion in sorted(found.difference(EMOTIONS)):
        raise UnknownChoice("emotion", emotion, EMOTIONS)
    return tuple(emotion for emotion in EMOTIONS if emotion in found)
