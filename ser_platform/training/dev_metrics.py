"""Metrics of an epoch on the dev clips."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ser_platform.metrics import confusion_matrix, macro_f1_from_confusion, uar_from_confusion, war

NO_DEV_METRICS = dict.fromkeys(("dev_loss", "dev_uar", "dev_war", "dev_macro_f1"), math.nan)


def compute_dev_metrics(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, float]:
    """Return the `dev_` metrics: cross-entropy in nats; UAR, WAR and macro-F1 in [0, 1].

    Args:
        logits: `(n_clips, n_emotions)`.
        targets: class indices `(n_clips,)`.
    """
    predictions = logits.argmax(axis=1)
    matrix = confusion_matrix(targets, predictions, logits.shape[1])
    return {
        "dev_loss": F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets)).item(),
        "dev_uar": uar_from_confusion(matrix),
        "dev_war": war(targets, predictions),
        "dev_macro_f1": macro_f1_from_confusion(matrix),
    }
