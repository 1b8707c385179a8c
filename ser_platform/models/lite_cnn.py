"""A small student on the raw waveform: a strided filter bank, depthwise separable convolutions, pooled statistics."""

from torch import Tensor, nn

from ser_platform.models.masking import masked_relu, mean_and_std
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation

STEM_KERNEL, STEM_STRIDE = 128, 16  # samples; 8 ms and 1 ms at 16 kHz
KERNEL = 9  # frames
STRIDES = (4, 2, 2)


class MaskedConv(nn.Module):
    """One-dimensional convolution, normalisation, ReLU; zero beyond a clip's end."""

    def __init__(self, n_inputs: int, n_outputs: int, kernel: int, stride: int, norm: str, *, separable: bool) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = kernel // 2
        if separable:  # Howard et al., 2017, arXiv:1704.04861
            depthwise = nn.Conv1d(n_inputs, n_inputs, kernel, stride, padding, groups=n_inputs, bias=False)
            self.convolution: nn.Module = nn.Sequential(depthwise, nn.Conv1d(n_inputs, n_outputs, 1, bias=False))
        else:
            self.convolution = nn.Conv1d(n_inputs, n_outputs, kernel, stride, padding, bias=False)
        self.normalisation = make_normalisation(norm, n_outputs)

    def forward(self, sequences: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, n_frames)` and lengths."""
        lengths = (lengths + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1
        return masked_relu(self.normalisation(self.convolution(sequences)), lengths), lengths


class LiteCnn(NeuralModel):
    """Depthwise separable CNN on samples `(batch, n_samples, 1)`; `width` sets its size."""

    def __init__(self, n_features: int, n_emotions: int, *, width: int, dropout: float, norm: str) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width, 3 * width)
        stem = MaskedConv(n_features, width, STEM_KERNEL, STEM_STRIDE, norm, separable=False)
        body = [
            MaskedConv(n, m, KERNEL, stride, norm, separable=True)
            for n, m, stride in zip(widths, widths[1:], STRIDES, strict=False)
        ]
        self.layers = nn.ModuleList([stem, *body])
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map samples `(batch, n_samples, 1)` and lengths to `(batch, n_pooled)`."""
        sequences = features.transpose(1, 2)
        for layer in self.layers:
            sequences, lengths = layer(sequences, lengths)
        return mean_and_std(sequences.transpose(1, 2), lengths)
