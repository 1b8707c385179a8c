"""Where a classifier on a pretrained encoder starts from."""

from collections.abc import Mapping
from typing import Any

from ser_platform.models import PRETRAINED
from ser_platform.models.pretrained import FROZEN
from ser_platform.settings import Settings

# Whole clips: what is kept of them was computed of all of them.
FROZEN_START: Settings = {
    "features.dtype": "float16",
    "data.max_seconds": 60.0,
    "model.dropout": 0.5,
    "train.epochs": 20,
    "train.patience": 20,
    "optimizer.lr": 5e-4,
    "optimizer.weight_decay": 0.1,
}
TUNED_START: Settings = {
    "data.max_seconds": 12.0,
    "train.epochs": 12,
    "train.patience": 6,
    "train.batch_size": 16,
    "model.dropout": 0.5,
    "optimizer.lr": 1e-3,
    "optimizer.schedule": "warmup_cosine",
}


def start_of_pretrained(overrides: Mapping[str, Any]) -> Settings:
    """Return where a pretrained model starts from; nothing for other models."""
    if overrides.get("model.name") not in PRETRAINED:
        return {}
    return FROZEN_START if overrides.get("model.tuning", FROZEN) == FROZEN else TUNED_START
