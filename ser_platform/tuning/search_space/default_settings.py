"""What a training starts from where the user says nothing: by role, and by kind of model."""

from collections.abc import Mapping
from typing import Any

from ser_platform.settings import SETTINGS, Settings
from ser_platform.training.closed_form.closed_form_settings import start_of_classical
from ser_platform.training.pretrained_settings import start_of_pretrained

ROLES: dict[str, Settings] = {
    "teacher": {"train.epochs": 24, "train.patience": 10},
    "student": {"train.epochs": 30, "train.patience": 10, "optimizer.lr": 4e-3},
}
# Sizes at which the default architecture is a student; another has its own.
STUDENT_SIZES: Settings = {"model.width": 12, "model.hidden_size": 48}


def start_of(role: str, named: Mapping[str, Any], *, steps: bool = False) -> Settings:
    """Return the settings that a role and the model that `named` asks for start from.

    `steps` asks for a model that is trained step by step, as several workers do together.
    """
    default = SETTINGS["model.name"].default
    sizes = STUDENT_SIZES if role == "student" and named.get("model.name", default) == default else {}
    return ROLES[role] | sizes | start_of_classical(named) | start_of_pretrained(named, steps=steps)
