"""Two stacked bidirectional LSTMs with a dense layer, as published with the 201 features of `frames201`.

Sizes and order of the layers are those of a public PyTorch implementation without a paper: two layers of 256 units in
each direction, a dense layer of 256 units, dropout, classifier. The variant with attention normalises the LSTM's
outputs and weighs them by additive attention with as many hidden units as outputs (512).
"""

import torch
from torch import Tensor, nn

from ser_platform.models.bilstm import BiLstmEncoder
from ser_platform.models.masking import AdditiveAttention, weighted_mean
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.recurrent import select_last_step


def make_dense_head(n_inputs: int, n_hidden: int, n_emotions: int, dropout: float) -> nn.Sequential:
    """Return dropout, a dense layer, ReLU and the classifier."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_inputs, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_emotions))


class StackedBiLstm(NeuralModel):
    """Stacked BiLSTM, the last state of each direction, dense layer, classifier.

    The implementation uses both directions' outputs at the last frame, where the backward direction has processed one
    frame; here each direction contributes its last state. The parameters are the same.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, subsample: int
    ) -> None:
        super().__init__()
        self.encoder = BiLstmEncoder(n_features, hidden_size, layers, subsample)
        self.classifier = make_dense_head(self.encoder.n_outputs, hidden_size, n_emotions, dropout)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, steps = self.encoder(features, lengths)
        half = outputs.shape[2] // 2
        last = torch.cat([select_last_step(outputs, steps)[:, :half], outputs[:, 0, half:]], dim=1)
        return last.tanh()


class StackedAttentionBiLstm(NeuralModel):
    """Stacked BiLSTM, layer normalisation, additive attention over time, dense layer, classifier.

    The bias of the implementation's scores is left out, because softmax cancels it.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, hidden_size: int, layers: int, dropout: float, subsample: int
    ) -> None:
        super().__init__()
        self.encoder = BiLstmEncoder(n_features, hidden_size, layers, subsample)
        self.normalisation = nn.LayerNorm(self.encoder.n_outputs)
        self.attention = AdditiveAttention(self.encoder.n_outputs, self.encoder.n_outputs)
        self.classifier = make_dense_head(self.encoder.n_outputs, hidden_size, n_emotions, dropout)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, steps = self.encoder(features, lengths)
        outputs = self.normalisation(outputs)
        return weighted_mean(outputs, self.attention(outputs, steps))
