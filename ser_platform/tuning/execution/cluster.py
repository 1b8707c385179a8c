"""Ray: a cluster by `RAY_ADDRESS`, else this machine, with its automatic loggers and usage reports off."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ser_platform.errors import UserError
from ser_platform.settings import slots
from ser_platform.tuning.execution.ray_compat import start_local_ray
from ser_platform.tuning.search_space.space import Resources

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # the study's own journal is what a study is resumed from
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # A process a core that no trial would get: Tune's have an environment of their own.
    "RAY_prestart_worker_first_driver": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is to end the study, not the search alone
}
DEFAULT_GPU_SHARE = 0.25  # of a GPU for one trial: models here are small
LOOPBACK_ADDRESS = "127.0.0.1"
RAY_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
CLUSTER_TOKEN = secrets.token_hex(32)  # one a process: Ray remembers it


@dataclass(frozen=True)
class NodeResources:
    """What one machine has: CPU cores and GPUs."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """What trials get: `slots` at once, each `cpus_per_slot` cores and `gpus_per_slot` of a GPU of one of the nodes."""

    slots: int
    gpus_per_slot: float
    cpus_per_slot: int = 1
    nodes: tuple[NodeResources, ...] = ()

    def plan_trial_slots(self, resources: Resources) -> "Cluster":
        """Return the slots of trials that take these resources.

        Raises:
            UserError: no node has them; tells what there is.
        """
        return plan_slots(self.nodes, resources) if self.nodes else self


def plan_slots(nodes: Sequence[NodeResources], resources: Resources) -> Cluster:
    """Return the slots that nodes have for trials of these resources; a trial is on one node, a share on one GPU.

    Where the resources name no GPU share, it is `DEFAULT_GPU_SHARE` on a cluster that has any GPU.

    Raises:
        UserError: no node has a place for one; tells what there is.
    """
    has_gpus = any(node.gpus >= 1 for node in nodes)
    gpus = (DEFAULT_GPU_SHARE if has_gpus else 0.0) if resources.gpus is None else float(resources.gpus)
    places = sum(_count_slots(node, resources.cpus, gpus) for node in nodes)
    if not places:
        there = ", ".join(dict.fromkeys(f"{node.cpus:g} CPU cores and {node.gpus:g} GPUs" for node in nodes))
        raise UserError(
            f"resources: a trial is to have {resources.cpus} CPU cores and {gpus:g} of a GPU, and no node has that: "
            f"nodes have {there or 'nothing'}"
        )
    return Cluster(places, gpus, resources.cpus, tuple(nodes))


def _count_slots(node: NodeResources, cpus: int, gpus: float) -> int:
    by_cores = int(node.cpus // cpus)
    if not gpus:
        return by_cores
    # Rounded: 1 / 0.1 is 9.99.. in floor division. A share lies on one GPU, so each is divided for itself.
    on_gpus = int(node.gpus) * int(round(1 / gpus, 6)) if gpus < 1 else int(node.gpus // gpus)
    return min(by_cores, on_gpus)


@contextlib.contextmanager
def connect_cluster() -> Iterator[Cluster]:
    """Join the cluster at `RAY_ADDRESS` or start one on this machine; leave it at the end.

    Inside another such block this is the same cluster, which the outer block leaves.

    Raises:
        WorkFailed: it is gone.
    """
    os.environ.update({name: value for name, value in RAY_ENVIRONMENT.items() if name not in os.environ})
    import ray

    from ser_platform.tuning.execution.cluster_watchdog import watch_cluster

    if ray.is_initialized():
        yield _read_cluster()
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
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
    """Guard a cluster by a token that only its processes know, where the user has set up no other way.

    Ray itself would write one under the user's home folder, where it changes what a later `ray start` asks for.
    """
    if any(os.environ.get(name) for name in RAY_AUTH_VARIABLES):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = CLUSTER_TOKEN  # Ray sets the mode itself, where it reads it
    try:
        yield
    finally:
        for name in RAY_AUTH_VARIABLES:
            os.environ.pop(name, None)


def _read_cluster() -> Cluster:
    import ray

    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return plan_slots([NodeResources(node.get("CPU", 0), node.get("GPU", 0)) for node in alive], Resources())
