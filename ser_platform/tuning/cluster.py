"""Ray: a cluster by `RAY_ADDRESS`, else this machine, with its automatic loggers and usage reports off."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ser_platform.settings import slots

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # the study's own journal is what a study is resumed from
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is to end the study, not the search alone
}
GPU_SHARE = 0.25  # of a GPU for one trial: models here are small


@dataclass(frozen=True)
class Cluster:
    """What trials get: `slots` at once, each one CPU core and `gpus` of a GPU."""

    slots: int
    gpus: float


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Join the cluster at `RAY_ADDRESS` or start one on this machine; leave it at the end.

    Inside another such block this is the same cluster, which the outer block leaves.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray

    if ray.is_initialized():
        yield _offered()
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(
            address="local",
            num_cpus=slots(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield _offered()
    finally:
        ray.shutdown()


def _offered() -> Cluster:
    import ray

    available = ray.cluster_resources()
    cpus, gpus = int(available.get("CPU", 1)), available.get("GPU", 0)
    share = GPU_SHARE if gpus else 0.0
    return Cluster(min(cpus, int(gpus / share)) if gpus else cpus, share)
