"""Bidirectional LSTMs over frame features."""

from torch import Tensor, nn

from ser_platform.models.masking import AdditiveAttention, mean_and_std, weighted_mean
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.recurrent import run_recurrent_layer, stack_frames


class BiLstmEncoder(nn.Module):
    """Bidirectional LSTM over stacks of `subsample` frames; each direction ends where the clip ends."""

    def __init__(self, n_features: int, hidden_size: int, layers: int, subsample: int) -> None:
        super().__init__()
        self.subsample = subsample
        self.lstm = nn.LSTM(n_features * subsample, hidden_size, layers, batch_first=True, bidirectional=True)
        self.n_outputs = 2 * hidden_size

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, n_frames, n_features)` to `(batch, n_steps, 2 * hidden_size)` and the number of steps."""
        stacked, steps = stack_frames(frames, lengths, self.subsample)
        return run_recurrent_layer(self.lstm, stacked, steps), steps


class BiLstm(NeuralModel):
    """BiLSTM, mean and standard deviation over time, linear classifier.

    Default sizes are those of the recurrent networks on `frames201` (see `stacked_bilstm.py`): 256 units, one layer,
    each frame a step. Those networks classify the last step instead of statistics over all steps.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, subsample: int
    ) -> None:
        super().__init__()
        self.encoder = BiLstmEncoder(n_features, hidden_size, layers, subsample)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * self.encoder.n_outputs, n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, steps = self.encoder(features, lengths)
        return mean_and_std(outputs, steps)


class AttentionBiLstm(NeuralModel):
    """BiLSTM, additive attention over time, linear classifier (Mirsamadi, Barsoum & Zhang, ICASSP 2017)."""

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, subsample: int
    ) -> None:
        super().__init__()
        self.encoder = BiLstmEncoder(n_features, hidden_size, layers, subsample)
        self.attention = AdditiveAttention(self.encoder.n_outputs, hidden_size)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.encoder.n_outputs, n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, steps = self.encoder(features, lengths)
        return weighted_mean(outputs, self.attention(outputs, steps))
