"""Metrics of predictions, in [0, 1].

Targets and predictions are class indices, `(n,)`. UAR (unweighted average recall) selects models in this field
because classes are rarely balanced: Schuller, Steidl & Batliner, "The INTERSPEECH 2009 Emotion Challenge", 2009.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Return the number of utterances by true and predicted class, `(n_classes, n_classes)`."""
    pairs = np.asarray(targets, dtype=np.int64) * n_classes + np.asarray(predictions, dtype=np.int64)
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def recalls(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the recall of each class, `(n_classes,)`; NaN for a class without utterances."""
    return divide_counts(np.diag(matrix), matrix.sum(axis=1))


def divide_counts(counts: ArrayLike, totals: ArrayLike) -> NDArray[np.float64]:
    """Return `counts / totals` element by element, NaN where a total is 0."""
    totals = np.asarray(totals)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(totals > 0, np.asarray(counts) / totals, np.nan)


def uar_from_confusion(matrix: NDArray[np.int64]) -> float:
    """Return the mean recall over the classes that occur in the targets.

    Raises:
        ValueError: there are no utterances.
    """
    if not matrix.sum():
        raise ValueError("UAR of no utterances is undefined")
    return float(np.nanmean(recalls(matrix)))


def uar(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> float:
    """Return the unweighted average recall, over the classes that occur in the targets."""
    return uar_from_confusion(confusion_matrix(targets, predictions, n_classes))


def war(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Return the weighted average recall, which is the accuracy."""
    return float(np.mean(np.asarray(targets) == np.asarray(predictions)))


def macro_f1_from_confusion(matrix: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that occur in the targets."""
    correct = np.diag(matrix)
    f1 = 2 * correct / np.maximum(matrix.sum(axis=0) + matrix.sum(axis=1), 1)
    return float(f1[matrix.sum(axis=1) > 0].mean())
