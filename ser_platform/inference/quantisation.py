"""Weights in 8 bits, for devices: less than a third of the size; reading converts them to float32 again.

Each output channel of a weight has its own scale, symmetric about 0. Biases and normalisation parameters stay as they
are, since they are few.
Source: Krishnamoorthi (2018), "Quantizing deep convolutional networks for efficient inference",
arXiv:1806.08342, section 3.1 (per-channel, weights only).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE_PREFIX = "scale:"  # prefix of the name of a weight in 8 bits
MAX_INT8 = 127


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with each floating-point matrix or kernel as int8, and a scale for each of these."""
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point() or value.ndim < 2:
            weights[name] = value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / MAX_INT8
        weights[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(value.shape)
        weights[SCALE_PREFIX + name] = scale
    return weights


def dequantise(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in float32, from the result of `quantise`."""
    state = {}
    for name, value in weights.items():
        if name.startswith(SCALE_PREFIX):
            continue
        scale = weights.get(SCALE_PREFIX + name)
        state[name] = value if scale is None else value.float() * scale.reshape(-1, *[1] * (value.ndim - 1))
    return state
