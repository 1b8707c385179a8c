"""What a model costs: parameters, multiply-accumulates, bytes on disk, latency on one core."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from ser_platform.models import build_model, count_parameters
from ser_platform.settings import Settings

WARM_UP, RUNS = 5, 30
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


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


def complexity(settings: Settings, n_features: int, n_emotions: int, n_frames: int) -> Complexity:
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
        cpu_latency_ms=latency_ms(model, features, lengths),
    )


def count_macs(model: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-accumulates of one forward pass of `model`.

    torch's counter sees a recurrent layer's products on some machines and not on others, where they are one fused
    operation. What it saw inside of one is therefore taken out, and the formula put in.
    """
    recurrent = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.RNNBase)}
    found: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, _: found.append(_recurrent_macs(layer, given[0])))
        for layer in recurrent.values()
    ]
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    try:
        with torch.no_grad(), counter:
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    counts = counter.get_flop_counts()
    root = type(model).__name__
    seen = sum(sum(counts.get(f"{root}.{name}".rstrip("."), {}).values()) for name in recurrent)
    return (counter.get_total_flops() - seen) // 2 + sum(found)


def latency_ms(model: nn.Module, *inputs: Tensor) -> float:
    """Return the median milliseconds of a forward pass on one thread."""
    times = []
    with one_thread(), torch.inference_mode():
        for run in range(WARM_UP + RUNS):
            began = time.perf_counter()
            model(*inputs)
            if run >= WARM_UP:
                times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _recurrent_macs(layer: nn.RNNBase, given: Tensor | PackedSequence) -> int:
    """Return gates x (inputs + units) x units for every step, layer and direction."""
    # Unpacked, the first two dimensions are batch and time, in whichever order.
    steps = len(given.data) if isinstance(given, PackedSequence) else given.shape[0] * given.shape[1]
    directions = 2 if layer.bidirectional else 1
    gates = next(number for kind, number in GATES.items() if isinstance(layer, kind))
    macs, n_inputs = 0, layer.input_size
    for _ in range(layer.num_layers):
        macs += directions * gates * layer.hidden_size * (n_inputs + layer.hidden_size)
        n_inputs = directions * layer.hidden_size
    return steps * macs


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    flops: int = sdpa_flop(query, key, value)
    return flops


# The counter knows the attention kernels of GPUs only.
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
