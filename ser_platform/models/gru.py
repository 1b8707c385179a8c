"""A GRU over frame features (Cho et al., 2014, arXiv:1406.1078)."""

from torch import Tensor, nn

from ser_platform.models.model_output import NeuralModel
from ser_platform.models.recurrent import run_recurrent_layer, select_last_step, stack_frames


class Gru(NeuralModel):
    """Stacked GRU in one direction, its last state, two dense layers, classifier.

    Sizes are those of the recurrent recogniser in x4nth055/emotion-recognition-using-speech: two layers of 128 units,
    two dense layers of 128 units, dropout 0.3. That recogniser has one step, a vector per clip, and no activation in
    the dense layers; here the recurrence runs over frames, and the dense layers have ReLU.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, subsample: int
    ) -> None:
        super().__init__()
        self.subsample = subsample
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(n_features * subsample, hidden_size, layers, batch_first=True, dropout=between)
        dense = [
            part for _ in range(2) for part in (nn.Dropout(dropout), nn.Linear(hidden_size, hidden_size), nn.ReLU())
        ]
        self.classifier = nn.Sequential(*dense, nn.Dropout(dropout), nn.Linear(hidden_size, n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        stacked, steps = stack_frames(features, lengths, self.subsample)
        return select_last_step(run_recurrent_layer(self.gru, stacked, steps), steps)
