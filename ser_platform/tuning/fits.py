"""Training runs outside a search, as Ray tasks: new seeds of the best trials, fold teachers, timing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import ray

from ser_platform.tuning.cluster import Cluster
from ser_platform.tuning.trainable import Fit, FitJob, fit, seconds_alone

Progress = Callable[[int, int], None]
Counting = Callable[[str], AbstractContextManager[Progress]]  # what is counted -> shows (done, all)


def fit_all(jobs: Sequence[FitJob], where: Cluster, progress: Progress) -> list[Fit]:
    """Run the jobs on the cluster's slots; return their fits in the order of `jobs`."""
    task: Any = ray.remote(num_cpus=1, num_gpus=where.gpus, max_retries=2)(fit)
    waiting = [task.remote(job, where.gpus) for job in jobs]
    everything = list(waiting)
    while waiting:
        _, waiting = ray.wait(waiting, timeout=1.0)
        progress(len(jobs) - len(waiting), len(jobs))
    fits: list[Fit] = ray.get(everything)
    return fits


def time_alone(jobs: Sequence[FitJob]) -> list[float]:
    """Return each job's seconds for an epoch, one after another on one slot with the others idle."""
    task: Any = ray.remote(num_cpus=1)(seconds_alone)
    return [ray.get(task.remote(job)) for job in jobs]
