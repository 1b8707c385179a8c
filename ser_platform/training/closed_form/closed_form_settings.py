"""What a model that is fitted at once can take: one row a clip, and nothing that changes from step to step."""

import math
from collections.abc import Mapping
from typing import Any

from ser_platform.errors import UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.views.pooling import NO_POOL
from ser_platform.models import CLASSICAL, PRETRAINED, SOLVED
from ser_platform.models.pretrained import FROZEN, RIDGE, STACKED, STATISTICS
from ser_platform.settings import SETTINGS, Settings
from ser_platform.training.hint_loss import OFF

# Whole clips as means and deviations of the usual sets; the one row of a functional set is taken as it is.
START: Settings = {
    "features.sets": ("log_mel", "mfcc", "zcr", "rms"),
    "features.n_mfcc": 40,
    "data.max_seconds": 60.0,
    "train.epochs": 1,
    "model.hidden_size": 0,
    "optimizer.lr": 1e-3,
}
POOL = "mean_std"
OF_LOGITS = "mse"  # the teacher term that a solved model can take
OF_RIDGE = {
    "model.tuning": FROZEN,
    "model.pooling": STATISTICS,
    "model.mixing": STACKED,
    "model.adversary": 0.0,
}
OF_STEPS = ("masks", "filter", "mixup", "noise_snr_db", "gain_db", "time_shift_s", "crop")


def start_of_classical(overrides: Mapping[str, Any]) -> Settings:
    """Return where a classical model starts from; nothing for other models."""
    name = overrides.get("model.name")
    if name not in CLASSICAL and name not in SOLVED:
        return {}
    sets = overrides.get("features.sets", START["features.sets"])
    start = START | ({"distill.loss": OF_LOGITS} if name in SOLVED else {})
    return start if _has_rows(sets) else start | {"features.pool": POOL}


def has_ridge(settings: Mapping[str, Any]) -> bool:
    """Tell whether a configuration's model is a pretrained encoder under ridge regression."""
    return settings["model.name"] in PRETRAINED and settings["model.classifier"] == RIDGE


def is_fitted(settings: Mapping[str, Any]) -> bool:
    """Tell whether a configuration's model is fitted at once, by one process."""
    return settings["model.name"] in CLASSICAL or settings["model.name"] in SOLVED or has_ridge(settings)


def what_is_fitted(settings: Mapping[str, Any]) -> str:
    """Return the setting that has a configuration's model fitted at once."""
    return "model.classifier ridge" if has_ridge(settings) else f"model.name {settings['model.name']}"


def refuse_unfit(settings: Settings) -> None:
    """Refuse settings that a model that is fitted at once cannot follow; other models are none of its business.

    Raises:
        UserError: names the setting and what to set.
    """
    if not is_fitted(settings):
        return
    name = settings["model.name"]
    if has_ridge(settings):
        name = f"{name} with model.classifier {RIDGE}"
        for setting, valid in OF_RIDGE.items():
            if settings[setting] != valid:
                raise UserError(
                    f"model.classifier {RIDGE} is solved on a frozen encoder's statistics, and {setting} is "
                    f"{settings[setting]}; set it to {valid}, or model.classifier to mlp"
                )
    if settings["model.name"] in SOLVED:
        _refuse_teaching(settings)
    elif settings["distill.alpha"]:
        raise UserError(
            f"model.name {name} is fitted to classes, not to a teacher's probabilities, so distill.alpha "
            f"{settings['distill.alpha']:g} cannot be; set it to 0 (as a teacher it serves well)"
        )
    if settings["features.chunk"]:
        raise UserError(f"model.name {name} hears one row of a clip, no chunks; set features.chunk to 0")
    if not has_ridge(settings) and settings["features.pool"] == NO_POOL and not _has_rows(settings["features.sets"]):
        raise UserError(
            f"model.name {name} hears one row of a clip, features.sets {list(settings['features.sets'])} has frames; "
            f"set features.pool to {POOL}"
        )
    for setting in (f"augment.{name}" for name in OF_STEPS):
        if settings[setting] != SETTINGS[setting].default:
            raise UserError(
                f"model.name {name} is fitted once, and {setting} draws anew in every step; leave it at "
                f"{SETTINGS[setting].default:g}, and take augment.copies"
            )


def _refuse_teaching(settings: Settings) -> None:
    if settings["distill.alpha"] and settings["distill.loss"] != OF_LOGITS:
        raise UserError(
            f"model.name {settings['model.name']} is solved for a teacher's logits, which distill.loss "
            f"{settings['distill.loss']} does not compare; set it to {OF_LOGITS}"
        )
    if settings["distill.hint"] != OFF:
        raise UserError(
            f"model.name {settings['model.name']} has no embedding to resemble a teacher's; set distill.hint to {OFF}"
        )


def _has_rows(sets: Any) -> bool:
    return all(math.isinf(FAMILIES[name].frame_s) for name in sets if name in FAMILIES)
