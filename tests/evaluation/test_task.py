"""The task of a model is derived from the tags that every version has."""

import pytest

from ser_platform.evaluation.task import Task, describe_synthetic_model, describe_training_corpora

TAGS = {"corpus": "folder-calls", "labels": "anger joy", "protocol": "speaker", "split": "s1", "manifest": "m1"}
TASK = Task.from_tags(TAGS)


def with_tags(**changes: str) -> Task:
    return Task.from_tags(TAGS | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "s2"},
        {"manifest": "m2", "split": "s2"},
        {"labels": "joy anger"},
        {"protocol": "speaker (speakers unknown)"},
        {"protocol": "speaker; normalised with test speakers"},
    ],
)
def test_an_own_folder_that_is_split_anew_or_has_grown_is_one_task(changes: dict[str, str]) -> None:
    assert with_tags(**changes) == TASK


@pytest.mark.parametrize(
    "changes", [{"corpus": "folder-meetings"}, {"labels": "anger joy fear"}, {"protocol": "loso fold 1/9"}]
)
def test_another_folder_other_emotions_or_another_protocol_is_another_task(changes: dict[str, str]) -> None:
    assert with_tags(**changes) != TASK


def test_an_own_folder_differs_from_another_of_the_same_name() -> None:
    task = with_tags(corpus="emodb+folder-calls")
    assert task.has_own_folder and not with_tags(corpus="emodb").has_own_folder
    assert task.describe_difference(task.mark_own_folders()) == (
        "corpus emodb+folder-calls, not emodb+folder-calls (another folder)"
    )


def test_the_order_of_joined_corpora_makes_no_difference() -> None:
    assert with_tags(corpus="ravdess+emodb") == with_tags(corpus="emodb+ravdess")


@pytest.mark.parametrize(
    ("stamp", "kind"),
    [
        ("speaker_kfold:5 fold 2/5", "speaker_kfold"),
        ("speaker_kfold(5) fold 2/5 (lineage leak: 3 clips)", "speaker_kfold"),
        ("fixed:mine.csv", "fixed"),
        ("loso, 9 folds", "loso"),
        ("cross_corpus:train=emodb, test=ravdess (speakers overlap)", "cross_corpus:train=emodb,test=ravdess"),
        ("random (speakers overlap)", "random"),
        ("", ""),
    ],
)
def test_the_kind_of_a_protocol_has_no_fold_no_file_and_no_leak(stamp: str, kind: str) -> None:
    assert with_tags(protocol=stamp).protocol == kind


def test_the_difference_of_two_tasks_names_what_differs_alone() -> None:
    other = with_tags(corpus="emodb", labels="anger boredom", protocol="loso")
    assert TASK.describe_difference(other) == (
        "corpus folder-calls, not emodb; with joy, without boredom; protocol speaker, not loso"
    )
    assert TASK.describe_difference(with_tags(labels="anger")) == "with joy"


def test_a_version_without_tags_has_a_task_of_its_own() -> None:
    unknown = Task.from_tags({})
    assert unknown == Task((), (), "") and not unknown.is_synthetic
    assert TASK.describe_difference(unknown) == "corpus folder-calls, not unknown; with anger, joy; " + (
        "protocol speaker, not unknown"
    )


@pytest.mark.parametrize(
    ("corpus", "is_synthetic"),
    [("demo", True), ("emodb", False), ("demo+emodb", False), ("folder-demo", False), ("", False)],
)
def test_a_model_is_synthetic_where_all_its_speech_is(corpus: str, is_synthetic: bool) -> None:
    assert with_tags(corpus=corpus).is_synthetic == is_synthetic
    assert (describe_synthetic_model("ser-student v1", corpus) is not None) == is_synthetic


def test_the_training_corpora_are_listed_with_a_note_on_synthetic_ones() -> None:
    assert describe_training_corpora("demo+emodb") == "demo (synthetic)+emodb"
    assert describe_training_corpora("") == "an unknown corpus"
