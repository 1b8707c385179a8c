"""Normalisation layers that convolutional and dense models may take: `model.norm`."""

from torch import Tensor, nn
from torch.nn import functional as F

from ser_platform.errors import UnknownChoice

NORMS = ("batch", "layer")


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place, `(batch, channels, ...)`.

    Every place is scaled by itself, so neither padding nor the clips beside it, nor the worker that they are on, change
    anything: unlike batch statistics it is the same on one worker and on several (Ba, Kiros & Hinton, 2016,
    arXiv:1607.06450).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map `(batch, channels, ...)` to the same shape."""
        last = input.movedim(1, -1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


def make_normalisation(norm: str, n_channels: int, dimensions: int = 1) -> nn.Module:
    """Return the layer called `norm` for `(batch, channels)` or `(batch, channels, n)` (1) or images (2 dimensions).

    Raises:
        UnknownChoice: there is none.
    """
    if norm not in NORMS:
        raise UnknownChoice("model.norm", norm, NORMS)
    if norm == "layer":
        return ChannelNorm(n_channels)
    return nn.BatchNorm1d(n_channels) if dimensions == 1 else nn.BatchNorm2d(n_channels)
