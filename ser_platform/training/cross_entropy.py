"""Cross-entropy with class indices, or with the probabilities that mixup makes of them; class weights."""

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
        targets: class indices `(batch,)`, or probabilities `(batch, n_emotions)`.
        class_weights: `(n_emotions,)`, > 0; None means equal weights.
        label_smoothing: probability mass that is spread over all classes, in [0, 1).
        full_batch_targets: targets of the whole batch, by whose weights the sum is divided, so that the losses of the
            parts of a batch add up to the loss of the batch. None: the clips are the whole batch.
    """
    if targets.ndim == 1 and full_batch_targets is None:
        return F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    # torch divides by the weights of class indices, but by the number of clips for probabilities.
    return total / _weight(targets if full_batch_targets is None else full_batch_targets, class_weights)


def _weight(targets: Tensor, class_weights: Tensor | None) -> Tensor | int:
    if class_weights is None:
        return len(targets)
    return (class_weights[targets] if targets.ndim == 1 else targets @ class_weights).sum()


def compute_class_weights(targets: NDArray[np.int64], n_emotions: int) -> Tensor:
    """Return weights `(n_emotions,)` inverse to the class frequencies, with mean 1 over the clips.

    Args:
        targets: class indices `(n_clips,)`.
    """
    counts = np.bincount(targets, minlength=n_emotions)
    return torch.tensor(len(targets) / (n_emotions * np.maximum(counts, 1)), dtype=torch.float32)


def make_hard_label_loss(settings: Settings, weights: Tensor | None) -> Loss:
    """Return class-weighted cross-entropy with label smoothing."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        smoothing = settings.train.label_smoothing
        return cross_entropy(logits, batch.targets, weights, smoothing, batch.full_batch_targets)

    return loss
