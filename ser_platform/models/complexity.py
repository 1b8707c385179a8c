"""The multiply-accumulates of a model's forward pass."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-accumulates of one forward pass of `model`.

    A GRU, and an LSTM where the machine has no fused kernel, are products that torch's counter sees; the fused kernel
    and the attention of CPUs are added to what it knows.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings Triton: 70 MB in each process of a study

    counter = FlopCounterMode(display=False, custom_mapping=CPU_KERNELS)
    with torch.no_grad(), counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def _lstm_flops(steps: Sequence[int], inputs: Sequence[int], units: Sequence[int], *_: Any, **__: Any) -> int:
    """Count one layer, one direction: `steps` `(n_steps, batch, n_inputs)`, weights `(4 * n_units, ...)`."""
    return 2 * steps[0] * steps[1] * (math.prod(inputs) + math.prod(units))


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_flop_count

    flops: int = sdpa_flop_count(query, key, value)
    return flops


CPU_KERNELS = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
