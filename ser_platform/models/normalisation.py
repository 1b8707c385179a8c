"""Normalisation layers of convolutional and dense models: `model.norm`."""

from torch import Tensor, nn
from torch.nn import functional as F

from ser_platform.errors import UnknownChoice

NORMS = ("batch", "layer")


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels at each position of `(batch, channels, ...)`.

    Each position is scaled on its own, so padding, the other clips and the number of workers change nothing, unlike
    with batch statistics (Ba, Kiros & Hinton, 2016, arXiv:1607.06450).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map `(batch, channels, ...)` to the same shape."""
        last = input.movedim(1, -1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def make_normalisation(norm: str, n_channels: int, dimensions: int = 1) -> nn.Module:
    """Return the layer `norm` for `(batch, channels)` or `(batch, channels, n)` (1 dimension) or images (2 dimensions).

    Raises UnknownChoice where there is no such layer.
    """
    if norm not in NORMS:
        raise UnknownChoice("model.norm", norm, NORMS)
    if norm == "layer":
        return ChannelNorm(n_channels)
    return nn.BatchNorm1d(n_channels) if dimensions == 1 else nn.BatchNorm2d(n_channels)
