"""What a training starts from where the user says nothing: by role, and by kind of model."""

from ser_platform.settings import Overrides, Settings, SettingValue
from ser_platform.training.closed_form.closed_form_settings import default_classical_settings
from ser_platform.training.pretrained_settings import default_pretrained_settings

ROLE_DEFAULTS: dict[str, dict[str, SettingValue]] = {
    "teacher": {"train.epochs": 24, "train.patience": 10},
    "student": {"train.epochs": 30, "train.patience": 10, "optimizer.lr": 4e-3},
}
# Sizes at which the default architecture is a student; another has its own.
STUDENT_SIZES: dict[str, SettingValue] = {"model.width": 12, "model.hidden_size": 48}


def choose_defaults(role: str, given: Overrides, *, needs_gradients: bool = False) -> dict[str, SettingValue]:
    """Return the settings that a role and the model that `given` asks for start from.

    `needs_gradients` asks for a model that is trained step by step, as several workers do together.
    """
    default = Settings().model.name
    sizes = STUDENT_SIZES if role == "student" and given.get("model.name", default) == default else {}
    return (
        ROLE_DEFAULTS[role]
        | sizes
        | default_classical_settings(given)
        | default_pretrained_settings(given, needs_gradients=needs_gradients)
    )
