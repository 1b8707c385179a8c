"""Default settings of classifiers on a pretrained encoder."""

from ser_platform.models import PRETRAINED
from ser_platform.models.pretrained import ATTENTION, FROZEN, MLP, RIDGE
from ser_platform.settings import Overrides, SettingValue
from ser_platform.training.closed_form.closed_form_settings import ENCODER_RIDGE_SETTINGS

# Whole clips: stored statistics cannot be cropped.
FROZEN_DEFAULTS: dict[str, SettingValue] = {"data.max_seconds": 60.0}
FRAMES_DEFAULTS: dict[str, SettingValue] = {"features.dtype": "float16"}  # all states need much disk space
RIDGE_DEFAULTS: dict[str, SettingValue] = FROZEN_DEFAULTS | {"model.classifier": RIDGE, "train.epochs": 1}
GRADIENT_DEFAULTS: dict[str, SettingValue] = {
    "model.classifier": MLP,
    "model.dropout": 0.5,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.1,
}
MLP_DEFAULTS = FROZEN_DEFAULTS | GRADIENT_DEFAULTS | {"train.epochs": 20, "train.patience": 20}
TUNED_DEFAULTS = GRADIENT_DEFAULTS | {
    "data.max_seconds": 12.0,
    "train.epochs": 10,
    "train.batch_size": 16,
    "optimizer.schedule": "warmup_cosine",
}


def default_pretrained_settings(overrides: Overrides, *, needs_gradients: bool = False) -> dict[str, SettingValue]:
    """Return the default settings of a pretrained model; nothing for other models.

    On a frozen encoder they are those of ridge regression, unless `overrides` or `needs_gradients` require training by
    gradients.
    """
    if overrides.get("model.name") not in PRETRAINED:
        return {}
    if overrides.get("model.tuning", FROZEN) != FROZEN:
        return TUNED_DEFAULTS
    by_gradients = any(name in overrides for name in ("model.head_size", "model.dropout")) or any(
        overrides.get(name, valid) != valid for name, valid in ENCODER_RIDGE_SETTINGS.items()
    )
    classifier = overrides.get("model.classifier", MLP if needs_gradients or by_gradients else RIDGE)
    own = FRAMES_DEFAULTS if overrides.get("model.pooling") == ATTENTION else {}
    return own | (RIDGE_DEFAULTS if classifier == RIDGE else MLP_DEFAULTS)
