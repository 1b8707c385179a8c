"""Models: features `(batch, n_frames, n_features)` and lengths `(batch,)` in, logits `(batch, n_emotions)` out.

Padding changes no logit of any model.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ser_platform.errors import UnknownChoice
from ser_platform.models.bilstm import AttentionBiLstm, BiLstm
from ser_platform.models.cnn_bilstm import CnnBiLstm
from ser_platform.models.lite_cnn import LiteCnn
from ser_platform.settings import Settings


@dataclass(frozen=True)
class Architecture:
    """A model class, the `model.*` settings it takes, and whether it hears samples or frame features."""

    build: type[nn.Module]
    settings: tuple[str, ...]
    hears_waveform: bool = False


RECURRENT = ("hidden_size", "layers", "dropout", "subsample")
MODELS: dict[str, Architecture] = {
    "cnn_bilstm": Architecture(CnnBiLstm, ("width", "hidden_size", "layers", "dropout")),
    "lite_cnn": Architecture(LiteCnn, ("width", "dropout"), hears_waveform=True),
    "bilstm": Architecture(BiLstm, RECURRENT),
    "attention_bilstm": Architecture(AttentionBiLstm, RECURRENT),
}


def architecture(name: str) -> Architecture:
    """Return the architecture called `name`.

    Raises:
        UnknownChoice: there is none.
    """
    if name not in MODELS:
        raise UnknownChoice("model.name", name, MODELS)
    return MODELS[name]


def build_model(settings: Settings, n_features: int, n_emotions: int) -> nn.Module:
    """Build the model that `settings` describe, with random weights."""
    chosen = architecture(settings["model.name"])
    arguments = {name: settings[f"model.{name}"] for name in chosen.settings}
    return chosen.build(n_features, n_emotions, **arguments)


def count_parameters(settings: Settings, n_features: int, n_emotions: int) -> int:
    """Return how many trainable parameters the model has; allocates no weights."""
    with torch.device("meta"):
        model = build_model(settings, n_features, n_emotions)
    return sum(parameter.numel() for parameter in model.parameters())
