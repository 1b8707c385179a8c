"""Default teacher, trained from random weights: 2-D convolutions over (time, frequency), BiLSTM over time."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ser_platform.models.bilstm import BiLstmEncoder
from ser_platform.models.masking import AdditiveAttention, masked_relu, mean_and_std, strided_lengths
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation


class ConvBlock(nn.Module):
    """3 x 3 convolution that halves time and frequency, normalisation, ReLU."""

    def __init__(self, n_inputs: int, n_outputs: int, norm: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_inputs, n_outputs, 3, stride=2, padding=1, bias=False)
        self.normalisation = make_normalisation(norm, n_outputs, 2)

    def forward(self, images: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, n_frames, n_bands)` and lengths; output frames beyond a clip's end are zero."""
        lengths = strided_lengths(lengths, 2)
        return masked_relu(self.normalisation(self.convolution(images)), lengths), lengths


class CnnBiLstm(NeuralModel):
    """Three convolutions (time and frequency / 8), BiLSTM over time, attentive statistics pooling."""

    def __init__(
        self, n_features: int, n_emotions: int, *, width: int, hidden_size: int, layers: int, dropout: float, norm: str
    ) -> None:
        super().__init__()
        widths = (1, width, 2 * width, 2 * width)
        blocks = [ConvBlock(n, m, norm) for n, m in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks).to(memory_format=torch.channels_last)
        n_bands = -(-n_features // 8)
        self.encoder = BiLstmEncoder(widths[-1] * n_bands, hidden_size, layers, subsample=1)
        self.attention = AdditiveAttention(self.encoder.n_outputs, hidden_size)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * self.encoder.n_outputs, n_emotions))
        self.dropout = nn.Dropout(dropout)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        # Channels last: convolutions over few channels train a third faster on CPUs.
        images = features[:, None].contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            images, lengths = block(images, lengths)
        frames = images.permute(0, 2, 1, 3).flatten(2)
        outputs, steps = self.encoder(self.dropout(frames), lengths)
        return mean_and_std(outputs, steps, self.attention(outputs, steps))
