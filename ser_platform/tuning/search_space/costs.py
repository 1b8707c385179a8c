"""What a configuration costs, known before anything is trained."""

import json
from collections.abc import Collection, Iterable

import torch

from ser_platform.models import build_model
from ser_platform.models.complexity import count_macs
from ser_platform.settings import Settings, as_json
from ser_platform.training.configuration import feature_view, parameters_of
from ser_platform.tuning.search_space.trial_metrics import CONFIGURATION, MEASURES

BYTES, KILOBYTE = 4, 1000  # of a float32
# What trials differ by most, and no weight depends on: building a model to count it takes 8 ms and more.
WEIGHTLESS = (
    "seed",
    "optimizer.lr",
    "optimizer.weight_decay",
    "model.dropout",
    "train.label_smoothing",
    "train.epochs",
)
_known: dict[str, dict[str, float]] = {}


def configuration_costs(settings: Settings, n_emotions: int, names: Collection[str]) -> dict[str, float]:
    """Return the costs among `names`, and always `parameters`.

    A frozen encoder's parameters and bytes are counted, its multiply-accumulates are not: its states are stored once.

    Raises:
        UserError: the settings contradict each other.
    """
    shape = {name: value for name, value in settings.items() if name not in WEIGHTLESS}
    key = json.dumps([as_json(shape), n_emotions, sorted(names)], sort_keys=True)
    if key not in _known:
        _known[key] = _costs(settings, n_emotions, names)
    return dict(_known[key])


def _costs(settings: Settings, n_emotions: int, names: Iterable[str]) -> dict[str, float]:
    wanted = {name for name in names if name in MEASURES and MEASURES[name].known == CONFIGURATION}
    costs = {"parameters": float(parameters_of(settings, n_emotions))}
    if "size_kb" in wanted:
        costs["size_kb"] = costs["parameters"] * BYTES / KILOBYTE
    if "macs" in wanted:
        view = feature_view(settings)
        frames = 1 if view.is_pooled else view.max_frames
        model = build_model(settings, view.n_features, n_emotions).eval()
        costs["macs"] = float(count_macs(model, torch.zeros(1, frames, view.n_features), torch.tensor([frames])))
    return costs
