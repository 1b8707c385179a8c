"""The settings of a training that the user does not set: by role, and by kind of model."""

from ser_platform.settings import Overrides, Settings, SettingValue
from ser_platform.training.closed_form.closed_form_settings import default_classical_settings
from ser_platform.training.pretrained_settings import default_pretrained_settings

ROLE_DEFAULTS: dict[str, dict[str, SettingValue]] = {
    "teacher": {"train.epochs": 24, "train.patience": 10},
    "student": {"train.epochs": 30, "train.patience": 10, "optimizer.lr": 4e-3},
}
# Sizes of the default architecture as a student; other architectures have their own.
STUDENT_SIZES: dict[str, SettingValue] = {"model.width": 12, "model.hidden_size": 48}


def choose_defaults(role: str, given: Overrides, *, needs_gradients: bool = False) -> dict[str, SettingValue]:
    """Return the default settings of a role ("teacher" or "student") and of the model that `given` chooses.

    With `needs_gradients` the model is one that is trained by gradient descent, as several workers together need.
    """
    default = Settings().model.name
    sizes = STUDENT_SIZES if role == "student" and given.get("model.name", default) == default else {}
    return (
        ROLE_DEFAULTS[role]
        | sizes
        | default_classical_settings(given)
        | default_pretrained_settings(given, needs_gradients=needs_gradients)
    )
