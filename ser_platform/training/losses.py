"""Cross-entropy, of class indices or of the probabilities that mixup makes of them."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the class-weighted cross-entropy in nats, a scalar.

    Args:
        logits: `(batch, n_emotions)`.
        targets: class indices `(batch,)`, or probabilities `(batch, n_emotions)`; probabilities that are 0 and 1 give
            what the indices give.
        class_weights: `(n_emotions,)`; None weighs all alike.
        label_smoothing: probability mass that is spread over all classes, in [0, 1).
    """
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)
    total = F.cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    # torch would divide by the clips here, where it divides by their weights when it is given indices.
    return total / (len(targets) if class_weights is None else (targets @ class_weights).sum())
