"""Cross-entropy, of class indices or of the probabilities that mixup makes of them."""

import torch.nn.functional as F
from torch import Tensor


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
