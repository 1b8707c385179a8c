"""What a model costs: parameters, multiply-accumulates, bytes on disk, latency on one core."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ser_platform.models import build_model, count_parameters
from ser_platform.models.forward_latency import measure_latency_ms
from ser_platform.settings import Settings


@dataclass(frozen=True)
class Complexity:
    """Costs of a model on one clip.

    Attributes:
        parameters: trainable ones.
        macs: multiply-accumulates of matrix products and convolutions in a forward pass; what is computed element by
            element is not counted, as is usual.
        size_bytes: of its weights as safetensors in float32.
        cpu_latency_ms: median of forward passes on one thread, after a warm-up; features are given.
    """

    parameters: int
    macs: int
    size_bytes: int
    cpu_latency_ms: float


def measure_complexity(settings: Settings, n_features: int, n_emotions: int, n_frames: int) -> Complexity:
    """Return what the model of `settings` costs on one clip of `n_frames`, or of as many samples if it hears samples.

    Raises:
        UserError: there is no such model, or its sizes cannot be.
    """
    model = build_model(settings, n_features, n_emotions).eval()
    features, lengths = torch.zeros(1, n_frames, n_features), torch.tensor([n_frames])
    return Complexity(
        parameters=count_parameters(settings, n_features, n_emotions),
        macs=count_macs(model, features, lengths),
        size_bytes=len(save_tensors({name: value.contiguous() for name, value in model.state_dict().items()})),
        cpu_latency_ms=measure_latency_ms(model, features, lengths),
    )


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


def _attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    from torch.utils.flop_counter import sdpa_flop_count

    flops: int = sdpa_flop_count(query, key, value)
    return flops


CPU_KERNELS = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
