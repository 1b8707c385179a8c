"""The duration of a forward pass on one core."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP_RUNS, TIMED_RUNS = 5, 30
QUICK_RUNS = 3  # where the latency is only reported


def measure_latency_ms(model: nn.Module, *inputs: Tensor, runs: int = TIMED_RUNS) -> float:
    """Return the median of `runs` forward passes on one thread in milliseconds, after `runs` / 6 warm-up passes."""
    times, warm_up = [], max(1, WARM_UP_RUNS * runs // TIMED_RUNS)
    with one_thread(), torch.inference_mode():
        for run in range(warm_up + runs):
            began = time.perf_counter()
            model(*inputs)
            if run >= warm_up:
                times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch to one thread inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
