"""The multiply-accumulates of a model's forward pass."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-accumulates of one forward pass of `model`.

    They are those of matrix products and convolutions; element-wise operations are not counted. torch's counter lacks
    the fused LSTM kernel and the attention of CPUs, which `CPU_KERNELS` adds.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton: 70 MB in each process of a study

    counter = FlopCounterMode(display=False, custom_mapping=CPU_KERNELS)
    with torch.no_grad(), counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def _count_lstm_flops(steps: Sequence[int], inputs: Sequence[int], units: Sequence[int], *_: Any, **__: Any) -> int:
    """Return the operations of one layer and direction from shapes: `steps` `(n_steps, batch, n_inputs)`."""
    return 2 * steps[0] * steps[1] * (math.prod(inputs) + math.prod(units))


def _count_attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_flop_count

    flops: int = sdpa_flop_count(query, key, value)
    return flops


CPU_KERNELS = {
    torch.ops.aten.mkldnn_rnn_layer: _count_lstm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention_flops,
}
