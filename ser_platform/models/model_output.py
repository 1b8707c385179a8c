"""What a model that is trained by gradients computes of a batch, and how it ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class ModelOutput:
    """Logits `(batch, n_emotions)`, and the embedding `(batch, n_embedded)` that the last layer maps to them.

    `language_logits` `(batch, n_languages)` are those of a language adversary in training, None without one.
    """

    logits: Tensor
    embedding: Tensor
    language_logits: Tensor | None = None


class NeuralModel(nn.Module):
    """A model that maps a clip to one vector, which its last layers classify; the very last one is linear.

    A subclass defines `pool`, and `classifier` or, where its layers have another name, `last_layers`.
    """

    classifier: nn.Module

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to logits `(batch, n_emotions)`."""
        return self.compute_output(features, lengths).logits

    def compute_output(self, features: Tensor, lengths: Tensor) -> ModelOutput:
        """Map features `(batch, n_frames, n_features)` and lengths to logits and what else a loss may need."""
        return self.classify(self.pool(features, lengths))

    def classify(self, pooled: Tensor) -> ModelOutput:
        """Map what `pool` returns to logits and embedding."""
        *hidden, linear = self.last_layers
        for layer in hidden:
            pooled = layer(pooled)
        return ModelOutput(linear(pooled), pooled)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to one vector a clip, `(batch, n_pooled)`."""
        raise NotImplementedError

    @property
    def last_layers(self) -> Sequence[nn.Module]:
        """The layers behind `pool`, of which the last is linear."""
        return layers_in(self.classifier)

    @property
    def n_embedded(self) -> int:
        """The width of an embedding."""
        linear = self.last_layers[-1]
        assert isinstance(linear, nn.Linear)
        return linear.in_features


def layers_in(module: nn.Module) -> Sequence[nn.Module]:
    """Return the layers of a sequence, or the single layer that `module` is."""
    return tuple(module) if isinstance(module, nn.Sequential) else (module,)
