"""All private APIs of Ray and Ray Tune that tuning uses: check them when Ray is upgraded.

They were read in Ray 2.60.0; `pyproject.toml` excludes versions in which they were not. Ray is imported in functions,
because its environment must be set before. Those of Ray Train are in `ray_train_compat`, which takes seconds to import.
"""

import logging
from pathlib import Path
from typing import Any

DONE = "done"  # Ray 2.60.0: `ray.tune.result.DONE`, key of a result that ends its trial


def silence_crash_reports() -> None:
    """Keep Ray from printing its report of each process that was killed: a study prints one line instead.

    Ray 2.60.0: `ray._private.worker.listen_error_messages`, the thread of `ray.init` that prints them, also with
    `log_to_driver=False`. They stay in the logs of Ray's session folder.
    """
    from ray._private import worker

    worker.listen_error_messages = lambda *_: None


def start_local_ray(n_cpus: int, ip_address: str) -> None:
    """Start a local cluster that listens on one address.

    Ray 2.60.0: the parameter `_node_ip_address` of `ray.init`.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=n_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=ip_address,
    )


def read_trial_error(trial: Any) -> Exception | None:
    """Return the error that ended a trial of Tune, from the file that Tune wrote; None without one.

    Ray 2.60.0: `ray.tune.experiment.Trial.pickled_error_file`.
    """
    from ray import cloudpickle

    path = trial.pickled_error_file
    error: Exception | None = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None
    return error
