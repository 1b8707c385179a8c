"""Logits and scores of a bundle on clips in the feature store."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split
from ser_platform.evaluation.intervals import Interval, metric_intervals
from ser_platform.features.views.chunks import average_logits
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.inference.bundle import Bundle
from ser_platform.metrics import confusion_matrix
from ser_platform.torch_threads import limit_to_one_thread

BATCH = 64


@dataclass(frozen=True)
class TestScore:
    """The scores of predictions on clips.

    Attributes:
        predictions: classes, `(n_clips,)`.
        matrix: counts by (true, predicted) emotion, `(n_emotions, n_emotions)`.
        metrics: the figures as they are logged, each name with the prefix `test_`.
        intervals: each figure with its interval, by its name without prefix; `uar` is one of them.
    """

    __test__ = False  # not for pytest

    predictions: NDArray[np.int64]
    matrix: NDArray[np.int64]
    uar: Interval
    metrics: dict[str, float]
    intervals: dict[str, Interval]


def compute_logits(bundle: Bundle, manifest: Manifest, clips: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return logits `(n_clips, n_emotions)` of the rows `clips` of a manifest, in the order of `clips`.

    torch computes them on one thread, as in prediction, except with a tuned encoder, whose batches are large.
    """
    hashes, speakers = tuple(manifest.column("audio_sha256")), tuple(manifest.column("speaker"))
    with nullcontext() if bundle.tuned_encoders else limit_to_one_thread():
        return compute_stored_logits(bundle, hashes, speakers, clips)


def compute_stored_logits(
    bundle: Bundle, hashes: tuple[str, ...], speakers: tuple[str, ...], clips: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return logits `(n_clips, n_emotions)` of the clips at the positions `clips` of `hashes` and `speakers`."""
    features = StoredViewedClips(bundle.view, hashes, speakers, bundle.settings.features.dtype)
    model = bundle.load_model()
    logits = np.empty((len(clips), len(bundle.labels)), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(clips), BATCH):
            part, lengths = features.batch(clips[first : first + BATCH], bundle.normaliser)
            inputs = torch.from_numpy(part), torch.from_numpy(lengths)
            logits[first : first + BATCH] = average_logits(model, *inputs, bundle.view.chunks).numpy()
    return logits


def score_test(split: Split, labels: tuple[str, ...], predictions: NDArray[np.int64]) -> TestScore:
    """Score predicted classes of the test clips `(n_test,)`."""
    return score_clips(split.manifest.take(split.test), labels, predictions)


def score_clips(clips: Manifest, labels: tuple[str, ...], predictions: NDArray[np.int64]) -> TestScore:
    """Score predicted classes `(n_clips,)`, in the order of `clips`."""
    targets = clips.encode_targets(labels)
    found = metric_intervals(targets, predictions, clips.column("speaker"), labels)
    uar = found["uar"]
    metrics = {f"test_{name}": interval.value for name, interval in found.items()}
    metrics |= {"test_uar_low": uar.low, "test_uar_high": uar.high, "test_speakers": float(uar.n_speakers)}
    return TestScore(predictions, confusion_matrix(targets, predictions, len(labels)), uar, metrics, found)
