"""Models map features `(batch, n_frames, n_features)` and lengths `(batch,)` to logits `(batch, n_emotions)`.

Padding changes no logit of any model. `MODELS` can be read without torch: a class is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from ser_platform.errors import UnknownChoice

if TYPE_CHECKING:
    from torch import nn

    from ser_platform.settings import Settings


@dataclass(frozen=True)
class Architecture:
    """A model class and its settings.

    Attributes:
        path: module and name of the class in this package, like "mlp.Mlp"; imported where a model is built.
        settings: names of its `model.*` settings, without sizes.
        sizes: its published sizes, which replace a `model.*` setting of 0.
        takes_waveform: whether its input is samples `(batch, n_samples, 1)` instead of frame features.
        fit_settings: names of its `model.*` settings that only its fit uses.
    """

    path: str
    settings: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    takes_waveform: bool = False
    fit_settings: tuple[str, ...] = ()

    @property
    def model_class(self) -> type[nn.Module]:
        """The class, imported now."""
        module, _, name = self.path.partition(".")
        found: type[nn.Module] = getattr(import_module(f"{__name__}.{module}"), name)
        return found


DROPOUT, DROPOUT_AND_NORM = ("dropout",), ("dropout", "norm")
BILSTM_SIZES = {"hidden_size": 256, "layers": 1, "subsample": 1}
STACKED_BILSTM_SIZES = {"hidden_size": 256, "layers": 2, "subsample": 1}
NEURAL: dict[str, Architecture] = {
    "cnn_bilstm": Architecture("cnn_bilstm.CnnBiLstm", DROPOUT_AND_NORM, {"width": 24, "hidden_size": 64, "layers": 1}),
    "lite_cnn": Architecture("lite_cnn.LiteCnn", DROPOUT_AND_NORM, {"width": 24}, takes_waveform=True),
    "bilstm": Architecture("bilstm.BiLstm", DROPOUT, BILSTM_SIZES),
    "attention_bilstm": Architecture("bilstm.AttentionBiLstm", DROPOUT, BILSTM_SIZES),
    "stacked_bilstm": Architecture("stacked_bilstm.StackedBiLstm", DROPOUT, STACKED_BILSTM_SIZES),
    "stacked_attention_bilstm": Architecture("stacked_bilstm.StackedAttentionBiLstm", DROPOUT, STACKED_BILSTM_SIZES),
    "gru": Architecture("gru.Gru", DROPOUT, {"hidden_size": 128, "layers": 2, "subsample": 1}),
    "chunk_cnn_lstm": Architecture(
        "chunk_cnn_lstm.ChunkCnnLstm", DROPOUT_AND_NORM, {"width": 16, "hidden_size": 64, "layers": 1, "chunk": 128}
    ),
    "conformer": Architecture(
        "conformer.Conformer", DROPOUT_AND_NORM, {"hidden_size": 48, "layers": 2, "subsample": 4}
    ),
    "separable_cnn": Architecture("separable_cnn.SeparableCnn", DROPOUT_AND_NORM, {"width": 16}),
    "mlp": Architecture("mlp.Mlp", DROPOUT_AND_NORM, {"hidden_size": 128, "layers": 2}),
    "cnn_bilstm_vector": Architecture(
        "cnn_bilstm_vector.CnnBiLstmVector", DROPOUT_AND_NORM, {"width": 64, "hidden_size": 128, "layers": 2}
    ),
}
# Fitted by scikit-learn: training/closed_form/estimators.py.
TREE, TREES, BOOSTED = ("depth", "leaf"), ("trees", "depth", "leaf"), ("trees", "depth", "leaf", "learning_rate")
CLASSICAL: dict[str, Architecture] = {
    "svm_linear": Architecture("fitted_models.LinearScores", (), fit_settings=("c",)),
    "svm_rbf": Architecture("fitted_models.RbfMachine", (), fit_settings=("c", "gamma")),
    "svm_poly": Architecture("fitted_models.PolynomialMachine", ("degree",), fit_settings=("c", "gamma")),
    "tree": Architecture("fitted_models.TreeVotes", (), fit_settings=TREE),
    "forest": Architecture("fitted_models.TreeVotes", (), fit_settings=TREES),
    "bagging": Architecture("fitted_models.TreeVotes", (), fit_settings=TREES),
    "adaboost": Architecture("fitted_models.TreeScores", (), fit_settings=BOOSTED),
    "boosting": Architecture("fitted_models.TreeScores", (), fit_settings=BOOSTED),
    "knn": Architecture("fitted_models.Neighbours", ("neighbours",)),
    "mlp_sklearn": Architecture("fitted_models.Perceptron", (), {"hidden_size": 64}),
    "logistic": Architecture("fitted_models.LinearScores", (), fit_settings=("c",)),
}
# Solved in closed form, also from a teacher's logits: training/closed_form/least_squares.py.
CLOSED_FORM: dict[str, Architecture] = {
    "ridge": Architecture("fitted_models.LinearScores", (), fit_settings=("ridge", "relevance"))
}
# A classifier on the pretrained encoder `model.backbone`; `model.tuning` decides between states and samples as input.
PRETRAINED: dict[str, Architecture] = {
    "pretrained": Architecture(
        "pretrained.Pretrained",
        (
            *("backbone", "tuning", "tuned_layers", "lora_rank", "checkpointing"),
            *("states", "classifier", "mixing", "pooling", "head_size", "dropout", "adversary"),
        ),
        fit_settings=("ridge",),
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
    import torch

    with torch.device("meta"):
        model = build_model(settings, n_features, n_emotions)
    return sum(parameter.numel() for parameter in model.parameters())
