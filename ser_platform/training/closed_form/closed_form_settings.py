"""The valid settings of models that are fitted without gradient steps on one row per clip."""

import math

from ser_platform.errors import UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.views.pooling import NO_POOL
from ser_platform.models import CLASSICAL, CLOSED_FORM, PRETRAINED
from ser_platform.models.pretrained import FROZEN, RIDGE, STACKED, STATISTICS
from ser_platform.settings import SETTINGS, Overrides, Settings, SettingValue
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.training.used_settings import PER_STEP_AUGMENTATIONS

# Means and deviations over whole clips; a functional set has one row per clip already.
CLASSICAL_DEFAULTS: dict[str, SettingValue] = {
    "features.sets": ("log_mel", "mfcc", "zcr", "rms"),
    "features.n_mfcc": 40,
    "data.max_seconds": 60.0,
    "train.epochs": 1,
    "model.hidden_size": 0,
    "optimizer.lr": 1e-3,
}
DEFAULT_POOLING = "mean_std"
LOGIT_LOSS = "mse"  # the teacher term of least squares
ENCODER_RIDGE_SETTINGS: Overrides = {
    "model.tuning": FROZEN,
    "model.pooling": STATISTICS,
    "model.mixing": STACKED,
    "model.adversary": 0.0,
}


def default_classical_settings(overrides: Overrides) -> dict[str, SettingValue]:
    """Return the default settings of a classical or closed-form model; nothing for other models."""
    name = overrides.get("model.name")
    if name not in CLASSICAL and name not in CLOSED_FORM:
        return {}
    sets = overrides.get("features.sets", CLASSICAL_DEFAULTS["features.sets"])
    assert isinstance(sets, tuple)
    start = dict(CLASSICAL_DEFAULTS)
    if name in CLOSED_FORM:
        start["distill.loss"] = LOGIT_LOSS
    if not _has_one_row_per_clip(sets):
        start["features.pool"] = DEFAULT_POOLING
    return start


def has_encoder_ridge(settings: Settings) -> bool:
    """Return whether the model is ridge regression on a pretrained encoder."""
    return settings.model.name in PRETRAINED and settings.model.classifier == RIDGE


def is_fitted_at_once(settings: Settings) -> bool:
    """Return whether the model is fitted once, without gradient steps, by one process."""
    return settings.model.name in CLASSICAL or settings.model.name in CLOSED_FORM or has_encoder_ridge(settings)


def describe_fitted_model(settings: Settings) -> str:
    """Return the setting, with its value, that selects a model fitted without gradient steps."""
    return "model.classifier ridge" if has_encoder_ridge(settings) else f"model.name {settings.model.name}"


def refuse_unsupported_settings(settings: Settings) -> None:
    """Raise UserError for a setting that is not valid for a model fitted without gradient steps."""
    if not is_fitted_at_once(settings):
        return
    name = settings.model.name
    if has_encoder_ridge(settings):
        name = f"{name} with model.classifier {RIDGE}"
        for setting, valid in ENCODER_RIDGE_SETTINGS.items():
            if settings.value(setting) != valid:
                raise UserError(
                    f"model.classifier {RIDGE} is solved on a frozen encoder's statistics, but {setting} is "
                    f"{settings.value(setting)}; set it to {valid}, or model.classifier to mlp"
                )
    if settings.model.name in CLOSED_FORM:
        _refuse_distillation(settings)
    elif settings.distill.alpha:
        raise UserError(
            f"model.name {name} is fitted to classes, not to a teacher's probabilities; distill.alpha is "
            f"{settings.distill.alpha:g}, set it to 0"
        )
    if settings.features.chunk:
        raise UserError(f"model.name {name} needs one row per clip, not chunks; set features.chunk to 0")
    has_frames = settings.features.pool == NO_POOL and not _has_one_row_per_clip(settings.features.sets)
    if has_frames and not has_encoder_ridge(settings):
        raise UserError(
            f"model.name {name} needs one row per clip, but features.sets {list(settings.features.sets)} has frames; "
            f"set features.pool to {DEFAULT_POOLING}"
        )
    for setting in (f"augment.{name}" for name in PER_STEP_AUGMENTATIONS):
        if settings.value(setting) != SETTINGS[setting].default:
            raise UserError(
                f"model.name {name} is fitted once, but {setting} is random at every step; set it to "
                f"{SETTINGS[setting].default:g}, and use augment.copies"
            )


def _refuse_distillation(settings: Settings) -> None:
    if settings.distill.alpha and settings.distill.loss != LOGIT_LOSS:
        raise UserError(
            f"model.name {settings.model.name} is solved for a teacher's logits, which distill.loss "
            f"{settings.distill.loss} does not compare; set it to {LOGIT_LOSS}"
        )
    if settings.distill.hint != NO_HINT:
        raise UserError(f"model.name {settings.model.name} has no embedding for a hint; set distill.hint to {NO_HINT}")


def _has_one_row_per_clip(sets: tuple[str, ...]) -> bool:
    return all(math.isinf(FAMILIES[name].frame_s) for name in sets if name in FAMILIES)
