"""Recall-based figures, against scikit-learn and by hand."""

import numpy as np
import pytest
import sklearn.metrics

from ser_platform.metrics import confusion_matrix, macro_f1_from_confusion, recalls, uar, uar_from_confusion, war


@pytest.fixture(params=range(5))
def drawn(request):
    """Targets and predictions of 60 clips over 5 classes, none of class 3 in the truth for odd seeds."""
    rng = np.random.default_rng(request.param)
    targets, predictions = rng.integers(0, 5, (2, 60))
    return (np.where(targets == 3, 0, targets) if request.param % 2 else targets), predictions


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_uar_is_scikit_learns_balanced_accuracy(drawn):
    targets, predictions = drawn
    assert uar(targets, predictions, 5) == pytest.approx(sklearn.metrics.balanced_accuracy_score(targets, predictions))


def test_war_is_scikit_learns_accuracy(drawn):
    assert war(*drawn) == pytest.approx(sklearn.metrics.accuracy_score(*drawn))


def test_the_confusion_matrix_is_scikit_learns(drawn):
    expected = sklearn.metrics.confusion_matrix(*drawn, labels=range(5))
    np.testing.assert_array_equal(confusion_matrix(*drawn, 5), expected)


def test_macro_f1_is_scikit_learns_over_the_classes_in_the_truth(drawn):
    targets, predictions = drawn
    expected = sklearn.metrics.f1_score(targets, predictions, labels=np.unique(targets), average="macro")
    assert macro_f1_from_confusion(confusion_matrix(targets, predictions, 5)) == pytest.approx(expected)


def test_uar_weighs_a_rare_class_like_a_frequent_one():
    assert uar([0, 0, 0, 0, 1], [0, 0, 0, 0, 0], 2) == 0.5
    assert war([0, 0, 0, 0, 1], [0, 0, 0, 0, 0]) == 0.8


def test_a_class_without_utterances_has_no_recall_and_does_not_count():
    matrix = confusion_matrix([0, 0, 1, 1], [0, 2, 1, 1], 3)
    np.testing.assert_array_equal(recalls(matrix), [0.5, 1.0, np.nan])
    assert uar_from_confusion(matrix) == 0.75


def test_the_order_of_the_matrix_is_truth_by_prediction():
    assert confusion_matrix([0], [1], 2).tolist() == [[0, 1], [0, 0]]


def test_uar_of_no_utterances_is_refused():
    with pytest.raises(ValueError, match="no utterances"):
        uar([], [], 3)
