"""Cross-entropy, of class indices or of the probabilities that mixup makes of them."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.settings import Settings
from ser_platform.training.batches.batch import Batch

Loss = Callable[[Tensor, Batch], Tensor]  # logits `(batch, n_emotions)` and their batch to a scalar in nats


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    label_smoothing: float,
    full_batch_targets: Tensor | None = None,
) -> Tensor:
    """Return the class-weighted cross-entropy in nats, a scalar.

    Args:
        logits: `(batch, n_emotions)`.
        targets: class indices `(batch,)`, or probabilities `(batch, n_emotions)`; probabilities that are 0 and 1 give
            what the indices give.
        class_weights: `(n_emotions,)`; None weighs all alike.
        label_smoothing: probability mass that is spread over all classes, in [0, 1).
        whole_targets: of the whole batch of which the clips are a part; the losses of its parts add up to its loss,
            which the mean over each part's own weights would miss by several percent. None: they are the whole.
    """
    if targets.ndim == 1 and full_batch_targets is None:
        return F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    # torch would divide probabilities by the clips, where it divides by their weights when it is given indices.
    return total / _weight(targets if full_batch_targets is None else full_batch_targets, class_weights)


def _weight(targets: Tensor, class_weights: Tensor | None) -> Tensor | int:
    if class_weights is None:
        return len(targets)
    return (class_weights[targets] if targets.ndim == 1 else targets @ class_weights).sum()


def class_weights(targets: NDArray[np.int64], n_emotions: int) -> Tensor:
    """Return weights `(n_emotions,)` inverse to the class frequencies, with mean 1 over the clips."""
    counts = np.bincount(targets, minlength=n_emotions)
    return torch.tensor(len(targets) / (n_emotions * np.maximum(counts, 1)), dtype=torch.float32)


def make_hard_label_loss(settings: Settings, weights: Tensor | None) -> Loss:
    """Return class-weighted cross-entropy with label smoothing."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        smoothing = settings.train.label_smoothing
        return cross_entropy(logits, batch.targets, weights, smoothing, batch.full_batch_targets)

    return loss
