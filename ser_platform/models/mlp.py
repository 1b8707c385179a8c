"""A multi-layer perceptron on one vector per clip: pooled statistics or functionals."""

from collections.abc import Sequence

from torch import Tensor, nn

from ser_platform.models.masking import mean_over_frames
from ser_platform.models.model_output import NeuralModel, list_layers
from ser_platform.models.normalisation import make_normalisation


class Mlp(NeuralModel):
    """Dense layers, each half as wide as the previous layer, with normalisation, ReLU and dropout.

    Default sizes, 128 and 64 units, are those of a published student of the `cnn_bilstm_vector` teacher on the same
    vectors (`vector184`). Several frames of a clip are averaged to one vector; `features.pool` or a set of functionals
    provides better vectors.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, norm: str
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        n_inputs, width = n_features, hidden_size
        for _ in range(layers):
            parts += [nn.Linear(n_inputs, width), make_normalisation(norm, width), nn.ReLU(), nn.Dropout(dropout)]
            n_inputs, width = width, max(1, width // 2)
        self.layers = nn.Sequential(*parts, nn.Linear(n_inputs, n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        return mean_over_frames(features, lengths)

    @property
    def last_layers(self) -> Sequence[nn.Module]:
        return list_layers(self.layers)
