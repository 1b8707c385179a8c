"""The base class of models trained by gradients, and their output for a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ser_platform.settings import Settings


@dataclass(frozen=True)
class ModelOutput:
    """The output of a model for a batch.

    Attributes:
        logits: `(batch, n_emotions)`.
        embedding: `(batch, n_embedded)`, the input of the last layer.
        language_logits: `(batch, n_languages)` of a language adversary in training; None without an adversary.
    """

    logits: Tensor
    embedding: Tensor
    language_logits: Tensor | None = None


class NeuralModel(nn.Module):
    """A model that pools a clip to one vector, which its last layers classify; the very last layer is linear.

    A subclass defines `pool`, and `classifier` or, where its layers have another name, `last_layers`.
    """

    classifier: nn.Module

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to logits `(batch, n_emotions)`."""
        return self.compute_output(features, lengths).logits

    def compute_output(self, features: Tensor, lengths: Tensor) -> ModelOutput:
        """Map features `(batch, n_frames, n_features)` and lengths to logits and embedding."""
        return self.classify(self.pool(features, lengths))

    def classify(self, pooled: Tensor) -> ModelOutput:
        """Map pooled vectors `(batch, n_pooled)` to logits and embedding."""
        *hidden, linear = self.last_layers
        for layer in hidden:
            pooled = layer(pooled)
        return ModelOutput(linear(pooled), pooled)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to one vector per clip, `(batch, n_pooled)`."""
        raise NotImplementedError

    @property
    def last_layers(self) -> Sequence[nn.Module]:
        """The layers after `pool`; the last is linear."""
        return list_layers(self.classifier)

    @property
    def n_embedded(self) -> int:
        """The width of an embedding."""
        linear = self.last_layers[-1]
        assert isinstance(linear, nn.Linear)
        return linear.in_features

    def fit_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the model's internal scale, if it has one, on features and lengths of training clips."""

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """Return an optimiser's groups of `params` with their peak `lr` and `weight_decay`; by default one group.

        Each trained parameter is in exactly one group; the order depends on model and settings only.
        """
        return [make_parameter_group(self, settings)]


def make_parameter_group(module: nn.Module, settings: Settings) -> dict[str, Any]:
    """Return the trained parameters of `module` as one group with the rate and decay of the settings."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return {"params": trained, "lr": settings.optimizer.lr, "weight_decay": settings.optimizer.weight_decay}


def list_layers(module: nn.Module) -> Sequence[nn.Module]:
    """Return the layers of an `nn.Sequential`, or `module` itself."""
    return tuple(module) if isinstance(module, nn.Sequential) else (module,)
