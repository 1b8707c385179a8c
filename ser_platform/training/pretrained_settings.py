"""Where a classifier on a pretrained encoder starts from."""

from collections.abc import Mapping
from typing import Any

from ser_platform.models import PRETRAINED
from ser_platform.models.pretrained import ATTENTION, FROZEN, MLP, RIDGE
from ser_platform.settings import Settings
from ser_platform.training.closed_form.closed_form_settings import OF_RIDGE

# Whole clips: what is kept of them was computed of all of them.
FROZEN_START: Settings = {"data.max_seconds": 60.0}
FRAMES_START: Settings = {"features.dtype": "float16"}  # every state of every frame is much to keep
RIDGE_START: Settings = FROZEN_START | {"model.classifier": RIDGE, "train.epochs": 1}
MLP_START: Settings = FROZEN_START | {
    "model.classifier": MLP,
    "model.dropout": 0.5,
    "train.epochs": 20,
    "train.patience": 20,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.1,
}
TUNED_START: Settings = {
    "model.classifier": MLP,
    "model.dropout": 0.5,
    "data.max_seconds": 12.0,
    "train.epochs": 10,
    "train.batch_size": 16,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.1,
    "optimizer.schedule": "warmup_cosine",
}


def start_of_pretrained(overrides: Mapping[str, Any], *, steps: bool = False) -> Settings:
    """Return where a pretrained model starts from; nothing for other models.

    On a frozen encoder that is ridge regression, unless something is asked for that only gradients can train. `steps`
    asks for that too: several workers do it together.
    """
    if overrides.get("model.name") not in PRETRAINED:
        return {}
    if overrides.get("model.tuning", FROZEN) != FROZEN:
        return TUNED_START
    by_gradients = any(name in overrides for name in ("model.head_size", "model.dropout")) or any(
        overrides.get(name, valid) != valid for name, valid in OF_RIDGE.items()
    )
    classifier = overrides.get("model.classifier", MLP if steps or by_gradients else RIDGE)
    kept = FRAMES_START if overrides.get("model.pooling") == ATTENTION else {}
    return kept | (RIDGE_START if classifier == RIDGE else MLP_START)
