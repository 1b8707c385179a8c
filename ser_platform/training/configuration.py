"""What a configuration's settings mean for data and model."""

from collections.abc import Mapping

from torch import Tensor

from ser_platform.errors import UserError
from ser_platform.features.normaliser import protocol_note
from ser_platform.features.view import FeatureView
from ser_platform.models import architecture, count_parameters
from ser_platform.settings import Settings
from ser_platform.training.fitting import refuse_unfit


def feature_view(settings: Settings) -> FeatureView:
    """Return the view of a configuration; a model that hears samples takes no frame features.

    Raises:
        UserError: there is no such model, or the settings contradict each other.
    """
    hears_waveform = architecture(settings["model.name"]).hears_waveform
    return FeatureView.from_settings(settings, ("waveform",) if hears_waveform else settings["features.sets"])


def needed_families(settings: Settings) -> tuple[str, ...]:
    """Return the feature families that must be stored for a configuration."""
    return feature_view(settings).needs


def stamped(protocol: str, settings: Settings) -> str:
    """Return a protocol's stamp with what the settings add to it: statistics of test speakers are no small matter."""
    note = protocol_note(settings["features.normalise"])
    return f"{protocol}; {note}" if note else protocol


def refuse_contradictions(settings: Settings) -> None:
    """Refuse settings that cannot be together.

    Raises:
        UserError: names them.
    """
    if settings["augment.copies"] and settings["distill.alpha"]:
        raise UserError("augment.copies and distill.alpha cannot be together yet: no teacher labels copies")
    refuse_unfit(settings)


def parameters_of(settings: Settings, n_emotions: int, state: Mapping[str, Tensor] | None = None) -> int:
    """Return how many trainable parameters the configuration's model has.

    Of kernels, trees and neighbours it is how many numbers the fit `state` holds; 0 before there is one.

    Raises:
        UserError: there is no such model, or the settings contradict each other.
    """
    refuse_contradictions(settings)
    parameters = count_parameters(settings, feature_view(settings).n_features, n_emotions)
    return sum(tensor.numel() for tensor in (state or {}).values()) if parameters == 0 else parameters
