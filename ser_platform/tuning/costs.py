"""What a configuration costs, known before anything is trained."""

from collections.abc import Iterable

import torch

from ser_platform.models import build_model
from ser_platform.models.complexity import count_macs
from ser_platform.settings import Settings
from ser_platform.training.configuration import feature_view, parameters_of
from ser_platform.tuning.measures import CONFIGURATION, MEASURES

BYTES, KILOBYTE = 4, 1000  # of a float32


def configuration_costs(settings: Settings, n_emotions: int, names: Iterable[str]) -> dict[str, float]:
    """Return the costs among `names`, and always `parameters`.

    A frozen encoder's parameters and bytes are counted, its multiply-accumulates are not: its states are stored once.

    Raises:
        UserError: the settings contradict each other.
    """
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
