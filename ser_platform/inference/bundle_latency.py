"""How long a prediction takes, from samples to probabilities, feature extraction included.

Wall time depends on what else the machine does, and CPU time on the core. A comparison with a limit uses CPU time in
units of a kernel that is timed in the same second: `REFERENCE_KERNEL_MS` converts it to the reference core.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.torch_threads import limit_to_one_thread

CLIP_S, WARM_UP_RUNS, TIMED_RUNS = 3.0, 2, 9
ROUNDS, RUNS_PER_ROUND, KERNEL_RUNS = 5, 10, 5  # a round times the kernel, then each model
REFERENCE_KERNEL_MS = 4.5  # CPU time of `run_kernel` on the reference core, a virtual core of an AMD EPYC


@dataclass(frozen=True)
class Latency:
    """The latency of a prediction for 3 s of speech on one thread.

    Attributes:
        cpu_ms: smallest CPU time, converted to the reference core, in ms; other load does not change it.
        wall_p95_ms: 95th percentile of the wall time on this machine, in ms.
    """

    cpu_ms: float
    wall_p95_ms: float


def measure_latencies(bundles: Sequence[Bundle | None]) -> list[Latency | None]:
    """Return the latency of each bundle, measured in turns; None for None."""
    predictors = [None if bundle is None else Predictor(bundle) for bundle in bundles]
    in_kernels: list[list[float]] = [[] for _ in bundles]
    walls: list[list[float]] = [[] for _ in bundles]
    with limit_to_one_thread():
        for _ in range(ROUNDS):
            kernel_s = min(cpu_s for cpu_s, _ in _time(lambda run: run_kernel(), KERNEL_RUNS))
            for predictor, ratios, wall in zip(predictors, in_kernels, walls, strict=True):
                if predictor is None:
                    continue
                times = _time_predictions(predictor, RUNS_PER_ROUND)
                ratios.append(min(cpu_s for cpu_s, _ in times) / kernel_s)
                wall += [1000 * wall_s for _, wall_s in times]
    return [
        Latency(REFERENCE_KERNEL_MS * statistics.median(ratios), float(np.quantile(wall, 0.95))) if wall else None
        for ratios, wall in zip(in_kernels, walls, strict=True)
    ]


def measure_bundle_latency_ms(bundle: Bundle) -> float:
    """Return the median latency of a prediction for 3 s of noise on one CPU thread, in ms; encoders are included."""
    with limit_to_one_thread():
        return 1000 * statistics.median(wall_s for _, wall_s in _time_predictions(Predictor(bundle), TIMED_RUNS))


def run_kernel() -> None:
    """Do a fixed amount of the work that predictions consist of: products of matrices and Fourier transforms."""
    frames = torch.linspace(-1.0, 1.0, 300 * 400).reshape(300, 400)
    weights = torch.linspace(-1.0, 1.0, 400 * 400).reshape(400, 400)
    with torch.inference_mode():
        torch.fft.irfft(torch.fft.rfft((frames @ weights).tanh()), n=400)


def _time_predictions(predictor: Predictor, runs: int) -> list[tuple[float, float]]:
    rng = np.random.default_rng(0)
    samples = [rng.normal(0.0, 0.1, round(CLIP_S * SAMPLE_RATE)).astype(np.float32) for _ in range(WARM_UP_RUNS + runs)]
    clips = [Audio(clip, SAMPLE_RATE, f"{number:064x}") for number, clip in enumerate(samples)]  # no cache has these
    return _time(lambda run: predictor.predict_probabilities(clips[run]), runs)


def _time(work: Callable[[int], object], runs: int) -> list[tuple[float, float]]:
    """Return CPU and wall time of `runs` calls, in seconds, after `WARM_UP_RUNS` others; `work` takes its number."""
    times = []
    for run in range(WARM_UP_RUNS + runs):
        cpu, wall = time.process_time(), time.perf_counter()
        work(run)
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return times[WARM_UP_RUNS:]
