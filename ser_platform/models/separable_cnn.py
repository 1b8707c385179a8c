"""A small student: 2-D depthwise separable convolutions over (time, frequency), attentive statistics pooling."""

import torch
from torch import Tensor, nn

from ser_platform.models.masking import AdditiveAttention, masked_relu, mean_and_std, strided_lengths
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation

# Channels in multiples of the width, stride in time, stride in frequency.
BLOCKS = ((2, 2, 2), (4, 1, 2), (4, 1, 1), (6, 2, 2), (6, 1, 1), (6, 1, 1))
EMBEDDING, ATTENTION = 8, 4  # channels after the layer over all bands, units of the attention; multiples of the width


class SeparableBlock(nn.Module):
    """Depthwise 3 x 3 and pointwise convolution, normalisation, ReLU; residual where the shape stays the same.

    Source: Howard et al., 2017, arXiv:1704.04861, without its normalisation between the two convolutions, which takes a
    third of the time.
    """

    def __init__(self, n_inputs: int, n_outputs: int, strides: tuple[int, int], norm: str) -> None:
        super().__init__()
        self.stride = strides[0]
        self.is_residual = n_inputs == n_outputs and strides == (1, 1)
        self.depthwise = nn.Conv2d(n_inputs, n_inputs, 3, strides, 1, groups=n_inputs, bias=False)
        self.pointwise = nn.Conv2d(n_inputs, n_outputs, 1, bias=False)
        self.normalisation = make_normalisation(norm, n_outputs, 2)

    def forward(self, images: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, n_frames, n_bands)` and lengths; output frames beyond a clip's end are zero."""
        outputs = self.normalisation(self.pointwise(self.depthwise(images)))
        lengths = strided_lengths(lengths, self.stride)
        return masked_relu(outputs.add_(images) if self.is_residual else outputs, lengths), lengths


class SeparableCnn(NeuralModel):
    """Separable CNN on spectrograms of any number of bands; `width` is the channels of the first layer.

    The sizes are chosen here. The blocks are MobileNet's; the last layer over all bands is a global depthwise
    convolution (Chen et al., 2018, MobileFaceNets, arXiv:1804.07573, section 3.1) over frequency only; the pooling is
    from Okabe, Koshinaka & Shinoda (2018, arXiv:1803.10963). Time and frequency are halved early, because the first
    layers take most of the time; a step of the last layer is 80 ms with frames of 10 ms.
    """

    def __init__(self, n_features: int, n_emotions: int, *, width: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.normalisation = make_normalisation(norm, width, 2)
        blocks, n_channels, n_bands = [], width, -(-n_features // 2)
        for multiple, time, frequency in BLOCKS:
            blocks.append(SeparableBlock(n_channels, multiple * width, (time, frequency), norm))
            n_channels, n_bands = multiple * width, -(-n_bands // frequency)
        self.blocks = nn.ModuleList(blocks)
        self.over_bands = nn.Conv2d(n_channels, n_channels, (1, n_bands), groups=n_channels, bias=False)
        self.embedding = nn.Linear(n_channels, EMBEDDING * width)
        self.attention = AdditiveAttention(EMBEDDING * width, ATTENTION * width)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * EMBEDDING * width, n_emotions))
        self.to(memory_format=torch.channels_last)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        lengths = strided_lengths(lengths, 2)
        images = masked_relu(self.normalisation(self.stem(features[:, None])), lengths)
        for block in self.blocks:
            images, lengths = block(images, lengths)
        frames = self.embedding(self.over_bands(images).squeeze(3).transpose(1, 2)).relu()
        return mean_and_std(frames, lengths, self.attention(frames, lengths))
