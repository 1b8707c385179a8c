"""Costs of a configuration that are known before training: parameters, bytes, multiply-accumulates."""

import json
from collections.abc import Collection

import torch

from ser_platform.models import build_model
from ser_platform.models.complexity import count_macs
from ser_platform.settings import Settings
from ser_platform.training.configuration import count_prediction_parameters, feature_view

BYTES_PER_WEIGHT, BYTES_PER_KILOBYTE = 4, 1000  # of a float32
# Settings on which no weight depends: many trials differ only in them, and building a model to count takes 8 ms.
SETTINGS_WITHOUT_COST = (
    "seed",
    "optimizer.lr",
    "optimizer.weight_decay",
    "model.dropout",
    "train.label_smoothing",
    "train.epochs",
)
_cost_cache: dict[str, dict[str, float]] = {}


def compute_costs(settings: Settings, n_emotions: int, names: Collection[str]) -> dict[str, float]:
    """Return the costs among `names`, names of TRIAL_METRICS, and always `parameters`.

    A frozen encoder's parameters and bytes are counted; its multiply-accumulates are not, as its outputs are stored.

    Raises:
        UserError: the settings contradict each other.
    """
    shape = {name: value for name, value in settings.dotted().items() if name not in SETTINGS_WITHOUT_COST}
    key = json.dumps([shape, n_emotions, sorted(names)], sort_keys=True)
    if key not in _cost_cache:
        _cost_cache[key] = _compute_uncached(settings, n_emotions, names)
    return dict(_cost_cache[key])


def _compute_uncached(settings: Settings, n_emotions: int, names: Collection[str]) -> dict[str, float]:
    costs = {"parameters": float(count_prediction_parameters(settings, n_emotions))}
    if "size_kb" in names:
        costs["size_kb"] = costs["parameters"] * BYTES_PER_WEIGHT / BYTES_PER_KILOBYTE
    if "macs" in names:
        view = feature_view(settings)
        frames = 1 if view.is_pooled else view.max_frames
        model = build_model(settings, view.n_features, n_emotions).eval()
        costs["macs"] = float(count_macs(model, torch.zeros(1, frames, view.n_features), torch.tensor([frames])))
    return costs
