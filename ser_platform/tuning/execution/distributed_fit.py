"""One training run on several workers with Ray Train's `TorchTrainer`.

Ray Train starts the workers, connects them with gloo (CPU) or nccl (CUDA) and restarts all if one fails. Checkpoints,
epochs and the result are in the run's folder (`fit_folder.FitFolder`), in the format of a run in one process: each can
resume the other. `ray.train.report` is not used: all workers would wait for Ray Train's controller, 0.5 s an epoch.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train.torch import TorchConfig

from ser_platform.errors import SerError, UserError, WorkFailed, last_line
from ser_platform.settings import Settings, resolve, slots
from ser_platform.training.workers import SINGLE_WORKER, TorchWorkerGroup, WorkerGroup
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_folder import FitFolder, run_fit
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData, use_threads
from ser_platform.tuning.execution.ray_train_compat import (
    FailureConfig,
    LeanTorchTrainer,
    RunConfig,
    ScalingConfig,
    TorchTrainer,
)
from ser_platform.tuning.execution.shared_storage import find_nodes_with, list_alive_nodes, make_node_selector

MAX_RESTARTS = 3  # of all workers after a failure of one
COLLECTIVE_TIMEOUT_S = 1800  # for a worker to wait for another
POLL_INTERVAL_S = 0.2
RAY_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(COLLECTIVE_TIMEOUT_S),
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # each run ends with a wait this long; Ray's default is 2
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it is one more process, and checkpoints are recent anyway
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
ResourceAmounts = Mapping[str, float]  # a node's amount of each resource


@dataclass(frozen=True)
class Team:
    """Workers that train one model together.

    Attributes:
        cpus: CPU cores and threads of each worker.
        nodes: ids of the nodes that the workers may be on; empty for all.
    """

    size: int
    device: str
    cpus: int = 1
    nodes: frozenset[str] = frozenset()

    @property
    def scaling(self) -> ScalingConfig:
        """The team as Ray Train's configuration."""
        on_gpu = self.device == "cuda"
        resources = {"CPU": self.cpus} | ({"GPU": 1} if on_gpu else {})
        where = make_node_selector(self.nodes) if self.nodes else None
        return ScalingConfig(
            num_workers=self.size, use_gpu=on_gpu, resources_per_worker=resources, label_selector=where
        )


def is_heavy(settings: Settings) -> bool:
    """Return whether a training step of the model is faster on several cores; smaller models are not."""
    return settings.model.name == "pretrained" and settings.model.tuning != "frozen"


def refuse_workers(workers: int, device: str) -> None:
    """Raise UserError for a number of workers that this machine cannot run; the message has the largest number."""
    if workers < 1:
        raise UserError(f"--workers {workers}: give at least 1, or leave --workers out to train in this process")
    if device == "mps" and workers > 1:
        raise UserError(f"--workers {workers}: mps has one worker; --device cpu has {slots()}")
    if not os.environ.get("RAY_ADDRESS") and workers > slots():
        raise UserError(f"--workers {workers}: this machine has slots for {slots()} (CPU cores)")


def form_team(workers: int, device: str, settings: Settings, allowed_nodes: frozenset[str] | None = None) -> Team:
    """Return a team on the cluster that this process has joined; `device` auto takes GPUs if there are any.

    Args:
        allowed_nodes: ids of the nodes that its workers may be on; None for all.

    Raises:
        UserError: the nodes have too few slots; the message has their number.
    """
    nodes = _list_node_resources(allowed_nodes)
    cpus, gpus = (sum(_count_places(node, 1, on_gpu) for node in nodes) for on_gpu in (False, True))
    if device == "auto":
        device = "cuda" if gpus else "mps" if workers == 1 and _has_local_mps() else "cpu"
    if device == "cuda" and workers > gpus:
        raise UserError(f"--workers {workers}: the cluster has {gpus} GPUs; --device cpu has slots for {cpus}")
    if workers > cpus:
        raise UserError(f"--workers {workers}: the cluster has slots for {cpus} (CPU cores)")
    if not is_heavy(settings):
        return Team(workers, device)
    return Team(workers, device, _find_cores_per_worker(workers, nodes, device == "cuda"))


def form_team_sharing(folder: Path, workers: int, device: str, settings: Settings) -> Team:
    """Return a team on nodes that share `folder`, where its workers store checkpoints.

    Raises:
        UserError: the nodes that share it have too few slots.
    """
    nodes = find_nodes_with(folder)
    if nodes >= list_alive_nodes():
        return form_team(workers, device, settings)
    try:
        return replace(form_team(workers, device, settings, nodes), nodes=nodes)
    except UserError as error:
        raise UserError(
            f"{error} on the {len(nodes)} of {len(list_alive_nodes())} nodes that share {folder} with this one; "
            "run the command in a folder on storage that all nodes share under the same path"
        ) from error


def count_offered_workers(folder: Path | None = None) -> int:
    """Return the default number of workers: the cluster's GPUs, else its nodes; 1 without a cluster.

    Only nodes that share `folder` count.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return 1
    nodes = _list_node_resources(None if folder is None else find_nodes_with(folder))
    return sum(_count_places(node, 1, True) for node in nodes) or max(1, sum(node.get("CPU", 0) >= 1 for node in nodes))


def form_trial_team(workers: int, cluster: Cluster) -> tuple[Team, int]:
    """Return the team of a study's trial, and the number of trials that the cluster trains at once.

    Raises:
        UserError: the cluster has fewer slots than workers; the message has their number.
    """
    places = round(cluster.slots * cluster.gpus_per_slot) if cluster.gpus_per_slot else cluster.slots
    if workers > places:
        raise UserError(f"resources.workers {workers}: the cluster has slots for {places}")
    return Team(workers, "cuda" if cluster.gpus_per_slot else "cpu"), places // workers


def train_trial_on_team(config: dict[str, Any], task: TrialData, team: Team, folder: Path) -> None:
    """Run one trial of a study as a Ray Train run; report each epoch to Tune.

    Epochs are read from the trial's folder instead of Ray's `TuneReportCallback`: its queue is one more actor and
    blocks Ray Train's controller until Tune has read it.
    """
    trial_folder, n_reported = FitFolder(folder / str(config["number"])), 0

    def report() -> None:
        nonlocal n_reported
        for result in trial_folder.epoch_results[n_reported:]:
            n_reported += 1
            tune.report({"epochs": [asdict(result)]})

    trial_folder.remove()  # of an interrupted study: its unfinished trials start from the first epoch
    fit_on_team(FitJob(resolve(config["settings"]), task), trial_folder, team, report)
    trial_folder.remove()


def fit_on_team(
    job: FitJob,
    folder: FitFolder,
    team: Team,
    on_poll: Callable[[], None] = lambda: None,
) -> FitResult:
    """Run one training run on a team, from the folder's last checkpoint if there is one; return its result.

    `on_poll` is called every `POLL_INTERVAL_S`; `folder.epoch_results` has the epochs so far.

    Raises:
        UserError, WorkFailed: the training failed.
        WorkFailed: workers failed more than `MAX_RESTARTS` times.
    """
    os.environ.update({name: value for name, value in RAY_TRAIN_ENVIRONMENT.items() if name not in os.environ})
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    folder.clear_failure()
    storage = folder.path / "ray"  # Ray Train's own state, which is not read
    storage.mkdir(parents=True, exist_ok=True)
    trainer = LeanTorchTrainer(
        _run_worker,
        train_loop_config={"job": [ray.put(job)], "folder": folder, "team": team},
        torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=team.scaling,
        run_config=RunConfig(
            name=f"run-{os.urandom(4).hex()}",  # Ray Train resumes a run of the same name
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(team.cpus)}},
        ),
    )
    failure = _run_trainer(trainer, on_poll)
    folder.raise_failure()
    if failure is not None:
        reason = f"failed more than {MAX_RESTARTS} times: {last_line(failure)}"
        raise WorkFailed(f"the workers of {folder.path.name} {reason}") from failure
    fit = folder.fit_result
    assert fit is not None, "the workers write the fit before they end"
    return fit


def _run_trainer(trainer: TorchTrainer, on_poll: Callable[[], None]) -> Exception | None:
    """Run Ray Train to its end; return its failure. It runs in a thread, because it handles Ctrl-C in the main one."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            trainer.fit()
        except Exception as failure:  # returned by the waiting thread
            failures.append(failure)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_INTERVAL_S)
        on_poll()
    return failures[0] if failures else None


def _run_worker(config: dict[str, Any]) -> None:
    """Run one worker of a team."""
    folder: FitFolder = config["folder"]
    if folder.failure_reason is not None:
        return  # restarted after a failure that would repeat
    team: Team = config["team"]
    use_threads(team.cpus)
    device = ray.train.torch.get_device() if team.device == "cuda" else torch.device(team.device)
    group: WorkerGroup = TorchWorkerGroup(device) if team.size > 1 else SINGLE_WORKER
    job: FitJob = ray.get(config["job"][0])
    try:
        run_fit(job, folder, device, group)
    except SerError as error:
        folder.save_failure(error)
        raise


def _find_cores_per_worker(workers: int, nodes: Sequence[ResourceAmounts], on_gpu: bool) -> int:
    """Return the largest number of CPU cores that each of `workers` can have."""
    most = int(max(node.get("CPU", 0) for node in nodes))
    fitting = (c for c in range(1, most + 1) if sum(_count_places(node, c, on_gpu) for node in nodes) >= workers)
    return max(fitting, default=1)


def _count_places(node: ResourceAmounts, cpus: int, on_gpu: bool) -> int:
    """Return the number of workers with `cpus` cores, and a GPU each if `on_gpu`, that fit on a node."""
    by_cores = int(node.get("CPU", 0) // cpus)
    return min(by_cores, int(node.get("GPU", 0))) if on_gpu else by_cores


def _list_node_resources(allowed_nodes: frozenset[str] | None) -> list[ResourceAmounts]:
    """Return the resources of each alive node, or of these."""
    return [
        n["Resources"] for n in ray.nodes() if n["Alive"] and (allowed_nodes is None or n["NodeID"] in allowed_nodes)
    ]


def _has_local_mps() -> bool:
    return not os.environ.get("RAY_ADDRESS") and torch.backends.mps.is_available()
