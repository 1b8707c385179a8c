"""Masks and pooling that read only a clip's own frames, so that padding changes no result.

Lengths are frame counts `(batch,)`; sequences are `(batch, n_frames, n_features)`, padded at the end.
"""

import torch
from torch import Tensor, nn


def frame_mask(lengths: Tensor, n_frames: int) -> Tensor:
    """Return a mask `(batch, n_frames)`, True on a clip's own frames."""
    return torch.arange(n_frames, device=lengths.device) < lengths[:, None]


def strided_lengths(lengths: Tensor, stride: int) -> Tensor:
    """Return lengths after a convolution of kernel 3, padding 1 and `stride`."""
    return (lengths - 1) // stride + 1


def masked_relu(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return ReLU of `(batch, channels, n_frames, ...)`, zero beyond a clip's end, where the next convolution reads.

    Works in place, which makes a training step of a small convolutional model a fifth shorter. `outputs` must be the
    result of an operation that does not need it in its backward pass, such as a normalisation.
    """
    mask = frame_mask(lengths, outputs.shape[2])[:, None]
    return outputs.mul_(mask.reshape(*mask.shape, *[1] * (outputs.dim() - 3))).relu_()


def mean_over_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over a clip's own frames, `(batch, n_features)`."""
    return weighted_mean(frames, _equal_weights(frames, lengths))


def weighted_mean(frames: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over time of frames times `weights` `(batch, n_frames)`, `(batch, n_features)`."""
    return torch.einsum("bt,btf->bf", weights, frames)


def _equal_weights(frames: Tensor, lengths: Tensor) -> Tensor:
    return frame_mask(lengths, frames.shape[1]) / lengths[:, None].to(frames.dtype)


def mean_and_std(frames: Tensor, lengths: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean and standard deviation over a clip's own frames, `(batch, 2 * n_features)`.

    `weights` `(batch, n_frames)` sum to 1 over a clip's own frames and are 0 beyond (attentive statistics pooling:
    Okabe, Koshinaka & Shinoda, 2018, arXiv:1803.10963); None means equal weights.
    """
    if weights is None:
        weights = _equal_weights(frames, lengths)
    mean = weighted_mean(frames, weights)
    std = (weighted_mean(frames.square(), weights) - mean.square()).clamp_min(1e-6).sqrt()
    return torch.cat([mean, std], dim=1)


def masked_softmax(scores: Tensor, lengths: Tensor) -> Tensor:
    """Return the softmax over time of scores `(batch, n_frames)`, 0 beyond a clip's end."""
    return scores.masked_fill(~frame_mask(lengths, scores.shape[1]), float("-inf")).softmax(dim=1)


class AdditiveAttention(nn.Module):
    """Additive attention over time (Bahdanau, Cho & Bengio, 2015, arXiv:1409.0473); padding has weight 0."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.score = nn.Linear(n_hidden, 1, bias=False)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Map `(batch, n_frames, n_features)` and lengths to weights `(batch, n_frames)` that sum to 1."""
        return masked_softmax(self.score(torch.tanh(self.hidden(frames))).squeeze(-1), lengths)
