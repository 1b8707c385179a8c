"""A published teacher: convolutions and recurrence along the features of one vector per clip, instead of over time.

It exists to reproduce that system; the recurrence of `cnn_bilstm` runs over time.
"""

from torch import Tensor, nn

from ser_platform.errors import UserError
from ser_platform.models.masking import mean_over_frames
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation

LEAST_FEATURES = 4  # two poolings by 2 leave one step
DENSE = (256, 128)


class CnnBiLstmVector(NeuralModel):
    """Conv1D 64 and 128 with pooling by 2, BiLSTM, the output at the last feature, dense 256 and 128, classifier.

    Sizes and order of the layers are those of a public PyTorch implementation without a paper: 184 features
    (`vector184`, means over a clip), kernels of 3, two layers of 128 LSTM units in each direction, dropout 0.3. As in
    that implementation, the backward direction is read at the last step, which is its first: its recurrent weights in
    the last layer get no gradient. Several frames of a clip are averaged to one vector.

    Raises UserError where there are fewer than 4 features.
    """

    def __init__(
        self, n_features: int, n_emotions: int, *, width: int, hidden_size: int, layers: int, dropout: float, norm: str
    ) -> None:
        if n_features < LEAST_FEATURES:
            raise UserError(
                f"model.name cnn_bilstm_vector reads along the features and needs at least {LEAST_FEATURES} of them; "
                f"got {n_features}"
            )
        super().__init__()
        parts: list[nn.Module] = []
        for n_inputs, n_outputs in ((1, width), (width, 2 * width)):
            convolution = nn.Conv1d(n_inputs, n_outputs, 3, padding=1)
            parts += [convolution, make_normalisation(norm, n_outputs), nn.ReLU(), nn.MaxPool1d(2)]
        self.convolutions = nn.Sequential(*parts)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(2 * width, hidden_size, layers, batch_first=True, bidirectional=True, dropout=between)
        dense: list[nn.Module] = []
        for n_inputs, n_outputs in ((2 * hidden_size, DENSE[0]), DENSE):
            dense += [nn.Linear(n_inputs, n_outputs), nn.ReLU(), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(*dense, nn.Linear(DENSE[-1], n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        steps = self.convolutions(mean_over_frames(features, lengths)[:, None]).transpose(1, 2)
        last: Tensor = self.lstm(steps)[0][:, -1]
        return last
