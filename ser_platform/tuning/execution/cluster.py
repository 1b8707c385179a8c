"""The Ray cluster: the one at `RAY_ADDRESS`, else one on this machine, without Ray's loggers and usage reports."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ser_platform.errors import UserError
from ser_platform.settings import slots
from ser_platform.tuning.execution.ray_compat import silence_crash_reports, start_local_ray
from ser_platform.tuning.search_space.space import Resources

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # a study is resumed from its own journal, not from Tune's state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Prestarted processes, one a core, would stay unused: Tune's processes have another runtime environment.
    "RAY_prestart_worker_first_driver": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study, not only the search
}
DEFAULT_GPU_SHARE = 0.25  # of a GPU for one trial: the models are small
LOOPBACK_ADDRESS = "127.0.0.1"
RAY_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
CLUSTER_TOKEN = secrets.token_hex(32)  # the same for all clusters of a process: Ray caches it


@dataclass(frozen=True)
class NodeResources:
    """CPU cores and GPUs of one node."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """Resources for trials: `slots` at once, each with `cpus_per_slot` cores and `gpus_per_slot` of a GPU of a node."""

    slots: int
    gpus_per_slot: float
    cpus_per_slot: int = 1
    nodes: tuple[NodeResources, ...] = ()

    def plan_trial_slots(self, resources: Resources) -> "Cluster":
        """Return the slots for trials with these resources; see `plan_slots`."""
        return plan_slots(self.nodes, resources) if self.nodes else self


def plan_slots(nodes: Sequence[NodeResources], resources: Resources) -> Cluster:
    """Return the slots that nodes have for trials with these resources.

    A trial runs on one node, and a share of a GPU is on one GPU. Without a GPU share in the resources it is
    `DEFAULT_GPU_SHARE` on a cluster with GPUs, else 0.

    Raises:
        UserError: no node has the resources of a trial; the message lists the nodes' resources.
    """
    has_gpus = any(node.gpus >= 1 for node in nodes)
    gpus = (DEFAULT_GPU_SHARE if has_gpus else 0.0) if resources.gpus is None else float(resources.gpus)
    places = sum(_count_slots(node, resources.cpus, gpus) for node in nodes)
    if not places:
        there = ", ".join(dict.fromkeys(f"{node.cpus:g} CPU cores and {node.gpus:g} GPUs" for node in nodes))
        raise UserError(
            f"resources: a trial needs {resources.cpus} CPU cores and {gpus:g} of a GPU, which no node has; "
            f"nodes have {there or 'nothing'}"
        )
    return Cluster(places, gpus, resources.cpus, tuple(nodes))


def _count_slots(node: NodeResources, cpus: int, gpus: float) -> int:
    by_cores = int(node.cpus // cpus)
    if not gpus:
        return by_cores
    # Rounded: 1 / 0.1 is 9.99.. in floor division. A share is on one GPU, so each GPU is divided separately.
    on_gpus = int(node.gpus) * int(round(1 / gpus, 6)) if gpus < 1 else int(node.gpus // gpus)
    return min(by_cores, on_gpus)


@contextlib.contextmanager
def connect_cluster() -> Iterator[Cluster]:
    """Join the cluster at `RAY_ADDRESS` or start one on this machine; leave it at the end of the block.

    A nested block uses the cluster of the outer one, which leaves it.

    Raises:
        WorkFailed: the cluster was lost.
    """
    os.environ.update({name: value for name, value in RAY_ENVIRONMENT.items() if name not in os.environ})
    import ray

    from ser_platform.tuning.execution.cluster_watchdog import watch_cluster

    if ray.is_initialized():
        yield _read_cluster()
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    silence_crash_reports()
    joins = bool(os.environ.get("RAY_ADDRESS"))
    with contextlib.nullcontext() if joins else _set_auth_token():
        if joins:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            start_local_ray(slots(), LOOPBACK_ADDRESS)
        try:
            with watch_cluster():
                yield _read_cluster()
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _set_auth_token() -> Iterator[None]:
    """Protect a local cluster with a token in the environment of its processes, unless the user configured Ray's own.

    Ray itself would write a token file in the user's home folder, which changes the authentication of a later
    `ray start`.
    """
    if any(os.environ.get(name) for name in RAY_AUTH_VARIABLES):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = CLUSTER_TOKEN  # Ray sets the mode itself
    try:
        yield
    finally:
        for name in RAY_AUTH_VARIABLES:
            os.environ.pop(name, None)


def _read_cluster() -> Cluster:
    import ray

    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return plan_slots([NodeResources(node.get("CPU", 0), node.get("GPU", 0)) for node in alive], Resources())
