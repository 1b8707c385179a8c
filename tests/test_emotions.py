"""The order of emotions, its synonyms, and the rules that merge or drop labels."""

import pytest

from ser_platform.emotions import AS_LABELLED, EMOTIONS, PRESETS, SYNONYMS, LabelRules, label_set, parse_emotion
from ser_platform.errors import UnknownChoice, UserError


def test_the_label_set_has_one_order_in_any_order_of_the_corpus():
    assert label_set(["sadness", "anger", "neutral", "anger"]) == ("neutral", "sadness", "anger")
    assert label_set(reversed(EMOTIONS)) == EMOTIONS


def test_an_unknown_emotion_is_refused_naming_the_valid_ones():
    with pytest.raises(UnknownChoice, match="unknown emotion 'joy'; choose from: neutral, calm, happiness"):
        label_set(["neutral", "joy"])


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_an_emotion_means_itself(emotion):
    assert parse_emotion(emotion) == emotion


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("Happy", "happiness"),
        ("JOY", "happiness"),
        ("sad", "sadness"),
        ("Angry", "anger"),
        (" fearful ", "fear"),
        ("ps", "surprise"),
        ("Pleasant_surprise", "surprise"),
        ("pleasant-surprised", "surprise"),
        ("pleasant  surprise", "surprise"),
        ("bored", "boredom"),
        ("Excited", "excitement"),
        ("sarcastic", "sarcasm"),
    ],
)
def test_a_word_means_an_emotion_in_any_case_and_spelling(word, emotion):
    assert parse_emotion(word) == emotion


def test_every_synonym_means_an_emotion_and_hides_none():
    assert set(SYNONYMS.values()) <= set(EMOTIONS)
    assert not set(SYNONYMS) & set(EMOTIONS)


def test_a_word_that_means_no_emotion_is_refused_as_it_was_written():
    with pytest.raises(UnknownChoice, match="unknown emotion 'Hungry'; choose from: neutral, calm"):
        parse_emotion("Hungry")


# Label rules


def mapped(text, *corpora):
    return LabelRules.parse(text).map_emotions(corpora or [EMOTIONS])


@pytest.mark.parametrize("text", [AS_LABELLED, "", " "])
def test_labels_stay_as_they_are_without_rules(text):
    assert mapped(text) == {emotion: emotion for emotion in EMOTIONS}


@pytest.mark.parametrize(
    ("preset", "labels"),
    [
        ("4", ("neutral", "happiness", "sadness", "anger")),
        ("6", ("neutral", "happiness", "sadness", "anger", "fear", "disgust")),
        ("7", ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")),
        ("8", ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")),
    ],
)
def test_a_preset_keeps_its_labels_and_drops_the_rest(preset, labels):
    mapping = mapped(preset)
    assert label_set(label for label in mapping.values() if label) == labels
    assert all(mapping[label] == label for label in labels)
    assert mapping["boredom"] is mapping["sarcasm"] is mapping["contempt"] is None
    assert set(PRESETS) == {"4", "6", "7", "8"}


def test_a_preset_merges_similar_emotions():
    assert mapped("4")["excitement"] == mapped("8")["excitement"] == "happiness"
    assert [mapped(preset)["calm"] for preset in ("4", "6", "7", "8")] == ["neutral", "neutral", "neutral", "calm"]


def test_only_emotions_that_occur_are_mapped_in_canonical_order():
    assert list(mapped("4", ["sadness", "calm"], ["anger", "neutral"])) == ["neutral", "calm", "sadness", "anger"]


def test_an_emotion_can_be_merged_into_another():
    assert mapped("calm -> neutral", ["neutral", "calm", "anger"]) == {
        "neutral": "neutral",
        "calm": "neutral",
        "anger": "anger",
    }


def test_an_emotion_can_be_dropped():
    assert mapped("drop calm", ["neutral", "calm"]) == {"neutral": "neutral", "calm": None}


@pytest.mark.parametrize("text", ["calm->neutral,drop  boredom", " as_labelled , calm -> neutral , drop boredom, "])
def test_spaces_in_rules_do_not_matter(text):
    assert mapped(text, ["calm", "boredom"]) == {"calm": "neutral", "boredom": None}


def test_rules_apply_from_left_to_right():
    assert mapped("calm -> neutral, neutral -> boredom", ["calm"]) == {"calm": "boredom"}
    assert mapped("neutral -> boredom, calm -> neutral", ["calm"]) == {"calm": "neutral"}
    assert mapped("drop calm, calm -> neutral", ["calm"]) == {"calm": None}


def test_rules_apply_before_the_preset():
    assert mapped("4, boredom -> neutral", ["boredom"]) == {"boredom": "neutral"}
    assert mapped("8, calm -> neutral", ["calm"]) == {"calm": "neutral"}
    assert mapped("4, anger -> frustration", ["anger"]) == {"anger": None}


def test_shared_keeps_what_every_corpus_has():
    assert mapped("shared", ["neutral", "anger", "calm"], ["anger", "neutral", "boredom"]) == {
        "neutral": "neutral",
        "calm": None,
        "anger": "anger",
        "boredom": None,
    }


def test_shared_applies_after_the_rules():
    assert mapped("shared, calm -> neutral", ["calm", "anger"], ["neutral", "anger"]) == {
        "neutral": "neutral",
        "calm": "neutral",
        "anger": "anger",
    }
    assert mapped("shared, drop anger", ["anger", "fear"], ["anger", "fear"]) == {"anger": None, "fear": "fear"}


@pytest.mark.parametrize("text", ["9", "happy", "calm, 4", "calm -> neutral, 4", "drop", "calm - neutral", "4 6"])
def test_what_is_no_rule_is_refused_naming_the_forms(text):
    with pytest.raises(UserError, match="is no rule; write as_labelled, shared, 4, 6, 7, 8, then 'calm -> neutral' or"):
        LabelRules.parse(text)


@pytest.mark.parametrize("text", ["glee -> happiness", "calm -> glee", "drop glee", "4, drop glee"])
def test_a_rule_about_an_unknown_emotion_is_refused_naming_the_valid_ones(text):
    with pytest.raises(UnknownChoice, match="unknown emotion 'glee'; choose from: neutral, calm, happiness"):
        LabelRules.parse(text)


def test_rules_accept_synonyms():
    assert LabelRules.parse("joy -> anger, drop sad").map_emotions([["happiness", "sadness"]]) == {
        "happiness": "anger",
        "sadness": None,
    }
