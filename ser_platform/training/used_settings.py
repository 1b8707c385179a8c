"""Which settings have an effect in a configuration: the others are neither searched nor listed. Imports no torch."""

import math
from collections.abc import Mapping

from ser_platform.features.families import FAMILIES
from ser_platform.features.families.encoded import is_encoder_family_name
from ser_platform.models import CLASSICAL, CLOSED_FORM, MODELS, PRETRAINED
from ser_platform.settings import SETTINGS

# The settings that decide which others have an effect, in the order in which a search draws them.
DECIDING_SETTINGS = (
    *("model.name", "model.tuning", "model.classifier", "model.pooling", "features.sets", "distill.alpha"),
    *("distill.loss", "distill.hint", "augment.copies", "augment.mixup", "optimizer.schedule"),
)
PER_STEP_AUGMENTATIONS = ("masks", "filter", "stretch", "mixup", "noise_snr_db", "gain_db", "time_shift_s", "crop")
FRAME_SETTINGS = ("max_seconds", "crop", "skip_s", "min_seconds", "pad", "trim_db")
OF_EVERY_FIT = ("train.class_weights", "train.sampling")
OF_PERCEPTRON = (*OF_EVERY_FIT, "optimizer.lr", "optimizer.weight_decay")
OF_ENCODER_RIDGE = ("name", "backbone", "tuning", "pooling", "states", "classifier", "mixing", "ridge")
OF_TUNING = {"tuned_layers": ("top",), "lora_rank": ("lora",), "checkpointing": ("top", "full", "lora")}


def is_used(name: str, known: Mapping[str, object]) -> bool:
    """Return whether a setting has an effect, given the values of others; those that are missing have their default."""
    group, _, field = name.rpartition(".")
    chosen = _Chosen(known)
    if chosen.model not in MODELS:
        return True  # refused elsewhere
    if group in ("train", "optimizer"):
        return chosen.uses_in_training(name)
    uses = {
        "model": chosen.uses_of_model,
        "augment": chosen.uses_augmentation,
        "distill": chosen.uses_of_teacher,
        "features": chosen.uses_of_features,
        "data": chosen.uses_of_data,
    }.get(group)
    return uses is None or uses(field)


class _Chosen:
    """The values in a configuration that decide about other settings."""

    def __init__(self, known: Mapping[str, object]) -> None:
        self._known = known
        self.model = str(self["model.name"])
        self.is_pretrained, self.is_frozen = self.model in PRETRAINED, self["model.tuning"] == "frozen"
        self.has_encoder_ridge = self.is_pretrained and self["model.classifier"] == "ridge"
        self.is_fitted_at_once = self.model in CLASSICAL or self.model in CLOSED_FORM or self.has_encoder_ridge

    def __getitem__(self, name: str) -> object:
        return self._known.get(name, SETTINGS[name].default)

    def uses_of_model(self, field: str) -> bool:
        architecture = MODELS[self.model]
        if self.has_encoder_ridge:
            return field in OF_ENCODER_RIDGE
        if self.is_pretrained and (field == "ridge" or self["model.tuning"] not in OF_TUNING.get(field, ())):
            return field not in ("ridge", *OF_TUNING) and field in ("name", *architecture.settings)
        return field in ("name", *architecture.sizes, *architecture.settings, *architecture.fit_settings)

    def uses_in_training(self, name: str) -> bool:
        if self.is_fitted_at_once:
            return name in (OF_PERCEPTRON if self.model == "mlp_sklearn" else OF_EVERY_FIT)
        if name == "optimizer.warmup":
            return self["optimizer.schedule"] == "warmup_cosine"
        is_of_encoder = name in ("optimizer.backbone_lr", "optimizer.layer_decay")
        return not is_of_encoder or (self.is_pretrained and not self.is_frozen)

    def uses_augmentation(self, field: str) -> bool:
        if field == "recipe":
            return bool(self["augment.copies"])
        return field not in PER_STEP_AUGMENTATIONS or not self.is_fitted_at_once

    def uses_of_teacher(self, field: str) -> bool:
        if self.model in CLASSICAL or self.has_encoder_ridge:
            return False
        if field == "alpha":
            return True
        if not self["distill.alpha"]:
            return False
        conditions = {
            # mixup mixes the teacher's probabilities at this temperature, whatever the loss.
            "temperature": self.model not in CLOSED_FORM
            and (self["distill.loss"] not in ("mse", "hard") or bool(self["augment.mixup"])),
            "beta": self["distill.loss"] == "dkd",
            "hint": self.model not in CLOSED_FORM,
            "hint_weight": self["distill.hint"] != "off",
        }
        return conditions.get(field, True)

    def uses_of_features(self, field: str) -> bool:
        if self.is_pretrained or MODELS[self.model].takes_waveform:
            return field not in ("sets", "n_mfcc", "pool")
        if field == "n_mfcc":
            return not {"mfcc", "mfcc_delta"}.isdisjoint(self._sets)
        return field != "pool" or not self._has_rows

    def uses_of_data(self, field: str) -> bool:
        if self.is_pretrained:
            return field not in FRAME_SETTINGS or not (self.is_frozen and self["model.pooling"] == "statistics")
        return field not in FRAME_SETTINGS or MODELS[self.model].takes_waveform or not self._has_rows

    @property
    def _sets(self) -> tuple[str, ...]:
        sets = self["features.sets"]
        assert isinstance(sets, tuple | list)
        return tuple(map(str, sets))

    @property
    def _has_rows(self) -> bool:
        """Whether every feature set has one row per clip; an encoder is not searched for."""
        if any(is_encoder_family_name(name) for name in self._sets):
            return False
        return all(name in FAMILIES and math.isinf(FAMILIES[name].frame_s) for name in self._sets)
