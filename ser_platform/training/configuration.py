"""The feature view, feature sets, names and sizes that follow from a configuration's settings."""

from collections.abc import Mapping

from torch import Tensor

from ser_platform.encoders import find_encoder, resolve_pinned_name
from ser_platform.errors import UserError
from ser_platform.features.families.encoded import (
    FRAMES_KIND,
    STATISTICS_KIND,
    encoder_family_name,
    is_encoder_family_name,
)
from ser_platform.features.views.normaliser import (
    GLOBAL_NORMALISATION,
    NO_NORMALISATION,
    SPEAKER_NORMALISATION,
    make_protocol_note,
)
from ser_platform.features.views.view import FeatureView
from ser_platform.models import PRETRAINED, count_parameters, fill_default_sizes, find_architecture
from ser_platform.models.pretrained import ATTENTION, FROZEN
from ser_platform.settings import Settings, SettingValue
from ser_platform.training.closed_form.closed_form_settings import refuse_unsupported_settings
from ser_platform.training.hint_loss import NO_HINT

WAVEFORM_SETS, SPECTRUM_SETS = ("waveform",), ("log_mel",)


def feature_view(settings: Settings) -> FeatureView:
    """Return the feature view of a configuration; a tuned encoder has no global normalisation of its samples.

    Raises UserError where there is no such model or encoder, or where the settings contradict each other.
    """
    sets = resolve_feature_sets(settings)
    is_tuned = settings.model.name in PRETRAINED and sets == WAVEFORM_SETS
    if is_tuned and settings.features.normalise == GLOBAL_NORMALISATION:
        settings = settings.with_overrides({"features.normalise": NO_NORMALISATION})
    return FeatureView.from_settings(settings, sets)


def resolve_feature_sets(settings: Settings) -> tuple[str, ...]:
    """Return the feature sets of a configuration: samples, the states of a frozen encoder, or `features.sets`.

    Raises UserError where there is no such model or encoder.
    """
    if takes_waveform(settings):
        return WAVEFORM_SETS
    if settings.model.name in PRETRAINED:
        kind = FRAMES_KIND if settings.model.pooling == ATTENTION else STATISTICS_KIND
        return (encoder_family_name(settings.model.backbone, kind),)
    return tuple(pin_feature_set(name) for name in settings.features.sets)


def takes_waveform(settings: Settings) -> bool:
    """Return whether the model's input is samples; raises UserError where there is no such model."""
    chosen = find_architecture(settings.model.name)
    return settings.model.tuning != FROZEN if settings.model.name in PRETRAINED else chosen.takes_waveform


def has_adversary(settings: Settings) -> bool:
    """Return whether the model is trained with a language adversary."""
    return settings.model.name in PRETRAINED and settings.model.adversary > 0


def pin_settings(settings: Settings) -> Settings:
    """Return `settings` with the digest of the weights in every encoder's name, and published sizes instead of 0.

    The meaning of stored settings then does not change with an encoder or a default.

    Raises UserError where there is no such encoder, or where its weights have another digest.
    """
    named: dict[str, SettingValue] = {"features.sets": tuple(pin_feature_set(name) for name in settings.features.sets)}
    if settings.model.name in PRETRAINED:
        named["model.backbone"] = resolve_pinned_name(settings.model.backbone)
    return fill_default_sizes(settings.with_overrides(named))


def pin_feature_set(name: str) -> str:
    """Return a feature set's name, with the digest of its encoder if it has one.

    Raises UserError where there is no such encoder.
    """
    if not is_encoder_family_name(name):
        return name
    spelled, _, kind = name.rpartition(".")
    return encoder_family_name(spelled, kind)


def stamp_protocol(protocol: str, settings: Settings) -> str:
    """Return `protocol` with a note where `features.normalise` uses statistics of test speakers."""
    note = make_protocol_note(settings.features.normalise)
    return f"{protocol}; {note}" if note else protocol


def refuse_contradictions(settings: Settings) -> None:
    """Raise UserError where settings exclude each other; the message names them."""
    if settings.distill.alpha and settings.distill.loss == "dkd" and settings.augment.mixup:
        raise UserError("distill.loss dkd and augment.mixup exclude each other: a mixture has no true class")
    if settings.augment.stretch and feature_view(settings).sets != SPECTRUM_SETS:
        raise UserError(
            f"augment.stretch needs features.sets {' '.join(SPECTRUM_SETS)}; got "
            f"{' '.join(feature_view(settings).sets)}"
        )
    if settings.distill.unlabelled:
        _refuse_unlabelled(settings)
    if settings.distill.hint != NO_HINT:
        if not settings.distill.alpha:
            raise UserError(f"distill.hint {settings.distill.hint} needs a teacher: raise distill.alpha above 0")
        if settings.features.chunk:
            raise UserError("distill.hint and features.chunk exclude each other: a hint is of a whole clip")
    if has_adversary(settings):
        for setting in ("features.chunk", "augment.mixup"):
            if settings.value(setting):
                raise UserError(f"model.adversary and {setting} exclude each other: a clip has one language")
    refuse_unsupported_settings(settings)


def _refuse_unlabelled(settings: Settings) -> None:
    """Raise UserError for settings that need a class or a speaker of every clip."""
    for wrong, why in (
        (not settings.distill.alpha, "distill.alpha 0: unlabelled clips need a teacher"),
        (settings.distill.loss == "dkd", "distill.loss dkd, which needs the true class"),
        (settings.augment.mixup, "augment.mixup, which mixes classes"),
        (settings.features.normalise == SPEAKER_NORMALISATION, "features.normalise speaker: no speaker is known"),
    ):
        if wrong:
            raise UserError(f"distill.unlabelled {settings.distill.unlabelled} cannot be used with {why}")


def count_prediction_parameters(settings: Settings, n_emotions: int, state: Mapping[str, Tensor] | None = None) -> int:
    """Return the number of parameters of a prediction, with those of a frozen encoder.

    For kernels, trees and neighbours it is the number of values in the fit `state`; 0 without a fit.

    Raises UserError where there is no such model, or where the settings contradict each other.
    """
    refuse_contradictions(settings)
    view = feature_view(settings)
    parameters = count_parameters(settings, view.n_features, n_emotions)
    if parameters == 0:
        parameters = sum(tensor.numel() for tensor in (state or {}).values())
    encoders = {name.rpartition(".")[0] for name in view.sets if is_encoder_family_name(name)}
    return parameters + sum(find_encoder(encoder).n_parameters for encoder in encoders)
