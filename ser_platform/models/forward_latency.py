"""The duration of a forward pass on one core."""

import statistics
import time

import torch
from torch import Tensor, nn

from ser_platform.torch_threads import limit_to_one_thread

WARM_UP_RUNS, TIMED_RUNS = 5, 30
QUICK_RUNS = 3  # where the duration is only reported


def measure_forward_ms(model: nn.Module, *inputs: Tensor, runs: int = TIMED_RUNS) -> float:
    """Return the median of `runs` forward passes on one thread in milliseconds, after `runs` / 6 warm-up passes."""
    times, warm_up = [], max(1, WARM_UP_RUNS * runs // TIMED_RUNS)
    with limit_to_one_thread(), torch.inference_mode():
        for run in range(warm_up + runs):
            began = time.perf_counter()
            model(*inputs)
            if run >= warm_up:
                times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
