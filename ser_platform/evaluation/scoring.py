"""What a bundle says about stored clips."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.splits import Split
from ser_platform.evaluation.intervals import Interval, uar_interval
from ser_platform.features.store import ViewedFeatures
from ser_platform.inference.bundle import Bundle
from ser_platform.metrics import confusion_matrix, macro_f1_of, recalls, war

BATCH = 64


@dataclass(frozen=True)
class TestScore:
    """The test clips scored once: `predictions` `(n_test,)`, counts `(n_emotions, n_emotions)`, UAR with interval."""

    __test__ = False  # not for pytest

    predictions: NDArray[np.int64]
    matrix: NDArray[np.int64]
    uar: Interval
    metrics: dict[str, float]


def logits_of(bundle: Bundle, hashes: tuple[str, ...], clips: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return logits `(n_clips, n_emotions)` of the stored clips numbered `clips`, in their order."""
    features, model = ViewedFeatures(bundle.view, hashes), bundle.model()
    logits = np.empty((len(clips), len(bundle.labels)), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(clips), BATCH):
            part, lengths = features.batch(clips[first : first + BATCH], bundle.normaliser)
            logits[first : first + BATCH] = model(torch.from_numpy(part), torch.from_numpy(lengths)).numpy()
    return logits


def score_test(split: Split, labels: tuple[str, ...], predictions: NDArray[np.int64]) -> TestScore:
    """Score predicted classes of the test clips `(n_test,)`."""
    test = split.manifest.take(split.test)
    targets = test.targets(labels)
    matrix = confusion_matrix(targets, predictions, len(labels))
    interval = uar_interval(targets, predictions, test.column("speaker"))
    metrics = {
        "test_uar": interval.value,
        "test_uar_low": interval.low,
        "test_uar_high": interval.high,
        "test_war": war(targets, predictions),
        "test_macro_f1": macro_f1_of(matrix),
        "test_speakers": float(interval.n_speakers),
    }
    for label, recall in zip(labels, recalls(matrix), strict=True):
        if np.isfinite(recall):
            metrics[f"test_recall_{label}"] = float(recall)
    return TestScore(predictions, matrix, interval, metrics)
