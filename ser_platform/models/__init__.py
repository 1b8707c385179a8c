"""Models map features `(batch, n_frames, n_features)` and lengths `(batch,)` to logits `(batch, n_emotions)`.

Padding changes no logit of any model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ser_platform.errors import UnknownChoice
from ser_platform.models.bilstm import AttentionBiLstm, BiLstm
from ser_platform.models.chunk_cnn_lstm import ChunkCnnLstm
from ser_platform.models.cnn_bilstm import CnnBiLstm
from ser_platform.models.cnn_bilstm_vector import CnnBiLstmVector
from ser_platform.models.conformer import Conformer
from ser_platform.models.fitted_models import (
    LinearScores,
    Neighbours,
    Perceptron,
    PolynomialMachine,
    RbfMachine,
    TreeScores,
    TreeVotes,
)
from ser_platform.models.gru import Gru
from ser_platform.models.lite_cnn import LiteCnn
from ser_platform.models.mlp import Mlp
from ser_platform.models.pretrained import Pretrained
from ser_platform.models.separable_cnn import SeparableCnn
from ser_platform.models.stacked_bilstm import StackedAttentionBiLstm, StackedBiLstm
from ser_platform.settings import Settings


@dataclass(frozen=True)
class Architecture:
    """A model class and its settings.

    Attributes:
        settings: names of its `model.*` settings, without sizes.
        sizes: its published sizes, which replace a `model.*` setting of 0.
        takes_waveform: whether its input is samples `(batch, n_samples, 1)` instead of frame features.
    """

    model_class: type[nn.Module]
    settings: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    takes_waveform: bool = False


DROPOUT, DROPOUT_AND_NORM = ("dropout",), ("dropout", "norm")
BILSTM_SIZES = {"hidden_size": 256, "layers": 1, "subsample": 1}
STACKED_BILSTM_SIZES = {"hidden_size": 256, "layers": 2, "subsample": 1}
NEURAL: dict[str, Architecture] = {
    "cnn_bilstm": Architecture(CnnBiLstm, DROPOUT_AND_NORM, {"width": 24, "hidden_size": 64, "layers": 1}),
    "lite_cnn": Architecture(LiteCnn, DROPOUT_AND_NORM, {"width": 24}, takes_waveform=True),
    "bilstm": Architecture(BiLstm, DROPOUT, BILSTM_SIZES),
    "attention_bilstm": Architecture(AttentionBiLstm, DROPOUT, BILSTM_SIZES),
    "stacked_bilstm": Architecture(StackedBiLstm, DROPOUT, STACKED_BILSTM_SIZES),
    "stacked_attention_bilstm": Architecture(StackedAttentionBiLstm, DROPOUT, STACKED_BILSTM_SIZES),
    "gru": Architecture(Gru, DROPOUT, {"hidden_size": 128, "layers": 2, "subsample": 1}),
    "chunk_cnn_lstm": Architecture(
        ChunkCnnLstm, DROPOUT_AND_NORM, {"width": 16, "hidden_size": 64, "layers": 1, "chunk": 128}
    ),
    "conformer": Architecture(Conformer, DROPOUT_AND_NORM, {"hidden_size": 48, "layers": 2, "subsample": 4}),
    "separable_cnn": Architecture(SeparableCnn, DROPOUT_AND_NORM, {"width": 16}),
    "mlp": Architecture(Mlp, DROPOUT_AND_NORM, {"hidden_size": 128, "layers": 2}),
    "cnn_bilstm_vector": Architecture(
        CnnBiLstmVector, DROPOUT_AND_NORM, {"width": 64, "hidden_size": 128, "layers": 2}
    ),
}
# Fitted by scikit-learn: training/closed_form/estimators.py.
CLASSICAL: dict[str, Architecture] = {
    "svm_linear": Architecture(LinearScores, ()),
    "svm_rbf": Architecture(RbfMachine, ()),
    "svm_poly": Architecture(PolynomialMachine, ("degree",)),
    "tree": Architecture(TreeVotes, ()),
    "forest": Architecture(TreeVotes, ()),
    "bagging": Architecture(TreeVotes, ()),
    "adaboost": Architecture(TreeScores, ()),
    "boosting": Architecture(TreeScores, ()),
    "knn": Architecture(Neighbours, ("neighbours",)),
    "mlp_sklearn": Architecture(Perceptron, (), {"hidden_size": 64}),
    "logistic": Architecture(LinearScores, ()),
}
# Solved in closed form, also from a teacher's logits: training/closed_form/least_squares.py.
CLOSED_FORM: dict[str, Architecture] = {"ridge": Architecture(LinearScores, ())}
# A classifier on the pretrained encoder `model.backbone`; `model.tuning` decides between states and samples as input.
PRETRAINED: dict[str, Architecture] = {
    "pretrained": Architecture(
        Pretrained,
        (
            *("backbone", "tuning", "tuned_layers", "lora_rank", "checkpointing"),
            *("states", "classifier", "mixing", "pooling", "head_size", "dropout", "adversary"),
        ),
    ),
}
MODELS = NEURAL | PRETRAINED | CLASSICAL | CLOSED_FORM


def find_architecture(name: str) -> Architecture:
    """Return the architecture called `name`; raises UnknownChoice where there is none."""
    if name not in MODELS:
        raise UnknownChoice("model.name", name, MODELS)
    return MODELS[name]


def fill_default_sizes(settings: Settings) -> Settings:
    """Return `settings` with the architecture's published size in place of each size of 0."""
    own = {f"model.{name}": size for name, size in find_architecture(settings.model.name).sizes.items()}
    missing = {name: size for name, size in own.items() if not settings.value(name)}
    return settings.with_overrides(missing)


def build_model(settings: Settings, n_features: int, n_emotions: int, *, load_weights: bool = True) -> nn.Module:
    """Return the model of `settings` with random weights, except for those of a pretrained encoder.

    Args:
        load_weights: False leaves the encoder's weights random too, for `load_state_dict`.

    Raises:
        UserError: there is no such model, or its sizes are not valid.
    """
    chosen, sized = find_architecture(settings.model.name), fill_default_sizes(settings)
    arguments = {name: sized.value(f"model.{name}") for name in (*chosen.sizes, *chosen.settings)}
    if settings.model.name in PRETRAINED:
        arguments["load_weights"] = load_weights
    return chosen.model_class(n_features, n_emotions, **arguments)


def count_parameters(settings: Settings, n_features: int, n_emotions: int) -> int:
    """Return the number of trainable parameters, without allocating weights.

    It is 0 for kernels, trees and neighbours, whose size depends on the training clips.
    """
    with torch.device("meta"):
        model = build_model(settings, n_features, n_emotions)
    return sum(parameter.numel() for parameter in model.parameters())
