"""Weights in 8 bits: less than a third of the size, for devices; they are computed with as float32 again.

Each output channel of a weight has a scale of its own, symmetric about 0; biases, normalisation and its statistics stay
as they are, being few. Source: Krishnamoorthi (2018), "Quantizing deep convolutional networks for efficient inference",
arXiv:1806.08342, section 3.1 (per-channel, weights only).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE_PREFIX = "scale:"  # before the name of a weight that is kept in 8 bits
MAX_INT8 = 127


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with int8 in place of every floating matrix or kernel, and their scales beside them."""
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
    """Return float32 weights of what `quantise` gave."""
    state = {}
    for name, value in weights.items():
        if name.startswith(SCALE_PREFIX):
            continue
        scale = weights.get(SCALE_PREFIX + name)
        state[name] = value if scale is None else value.float() * scale.reshape(-1, *[1] * (value.ndim - 1))
    return state
