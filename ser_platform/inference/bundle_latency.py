"""Latency of a prediction from samples to probabilities, feature extraction included."""

import statistics
import time

import numpy as np

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.torch_threads import limit_to_one_thread

CLIP_S, WARM_UP_RUNS, TIMED_RUNS = 3.0, 2, 9


def measure_bundle_latency_ms(bundle: Bundle) -> float:
    """Return the median latency of a prediction for 3 s of noise on one CPU thread, in ms; encoders are included."""
    return statistics.median(measure_latencies_ms(bundle, TIMED_RUNS))


def measure_latencies_ms(bundle: Bundle, runs: int) -> list[float]:
    """Return the latencies of `runs` such predictions, in ms, after `WARM_UP_RUNS` others."""
    predictor, rng, times = Predictor(bundle), np.random.default_rng(0), []
    with limit_to_one_thread():
        for run in range(WARM_UP_RUNS + runs):
            samples = rng.normal(0.0, 0.1, round(CLIP_S * SAMPLE_RATE)).astype(np.float32)
            audio = Audio(samples, SAMPLE_RATE, f"{run:064x}")  # a new digest each run: no cache has it
            began = time.perf_counter()
            predictor.predict_probabilities(audio)
            if run >= WARM_UP_RUNS:
                times.append(1000 * (time.perf_counter() - began))
    return times
