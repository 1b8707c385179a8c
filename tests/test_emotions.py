import pytest

from ser_platform.emotions import EMOTIONS, label_set
from ser_platform.errors import UnknownChoice


def test_the_label_set_has_one_order_whatever_the_corpus_says_first():
    assert label_set(["sadness", "anger", "neutral", "anger"]) == ("neutral", "sadness", "anger")
    assert label_set(reversed(EMOTIONS)) == EMOTIONS


def test_an_unknown_emotion_is_refused_naming_the_valid_ones():
    with pytest.raises(UnknownChoice, match="unknown emotion 'joy'; choose from: neutral, calm, happiness"):
        label_set(["neutral", "joy"])
