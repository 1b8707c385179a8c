"""What a configuration costs, known before anything is trained."""

import json
from collections.abc import Collection, Iterable

import torch

from ser_platform.models import build_model
from ser_platform.models.complexity import count_macs
from ser_platform.settings import Settings
from ser_platform.training.configuration import count_prediction_parameters, feature_view
from ser_platform.tuning.search_space.trial_metrics import BEFORE_TRAINING, TRIAL_METRICS

BYTES_PER_WEIGHT, BYTES_PER_KILOBYTE = 4, 1000  # of a float32
# What trials differ by most, and no weight depends on: building a model to count it takes 8 ms and more.
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
    """Return the costs among `names`, and always `parameters`.

    A frozen encoder's parameters and bytes are counted, its multiply-accumulates are not: its states are stored once.

    Raises:
        UserError: the settings contradict each other.
    """
    shape = {name: value for name, value in settings.dotted().items() if name not in SETTINGS_WITHOUT_COST}
    key = json.dumps([shape, n_emotions, sorted(names)], sort_keys=True)
    if key not in _cost_cache:
        _cost_cache[key] = _compute_uncached(settings, n_emotions, names)
    return dict(_cost_cache[key])


def _compute_uncached(settings: Settings, n_emotions: int, names: Iterable[str]) -> dict[str, float]:
    wanted = {name for name in names if name in TRIAL_METRICS and TRIAL_METRICS[name].known_at == BEFORE_TRAINING}
    costs = {"parameters": float(count_prediction_parameters(settings, n_emotions))}
    if "size_kb" in wanted:
        costs["size_kb"] = costs["parameters"] * BYTES_PER_WEIGHT / BYTES_PER_KILOBYTE
    if "macs" in wanted:
        view = feature_view(settings)
        frames = 1 if view.is_pooled else view.max_frames
        model = build_model(settings, view.n_features, n_emotions).eval()
        costs["macs"] = float(count_macs(model, torch.zeros(1, frames, view.n_features), torch.tensor([frames])))
    return costs
