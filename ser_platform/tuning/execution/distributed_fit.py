"""One training run on several workers: the training loop under Ray Train's `TorchTrainer`.

Ray Train starts the workers, joins them by gloo (CPU) or nccl (CUDA) and starts all again where one dies. What the run
goes on from, what it tells and what it gave lie in its folder (`keeping.FitFolder`), as they do for a run of one
process: the two resume each other, and nothing is unpickled. Nothing is told through `ray.train.report`, which has all
workers wait until Ray Train's controller looks, half a second an epoch.
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

MAX_RESTARTS = 3  # of all workers, where one has died
COLLECTIVE_TIMEOUT_S = 1800  # of a worker that waits for another
POLL_INTERVAL_S = 0.2  # seconds between looks at how the run stands
RAY_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(COLLECTIVE_TIMEOUT_S),
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # 2, Ray's own, are waited out at the end of each run
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more; the last checkpoint is at most an epoch old
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
ResourceAmounts = Mapping[str, float]  # of a node: how much of each resource


@dataclass(frozen=True)
class Team:
    """Workers that train one model together: how many, on which device, and the CPU cores and threads of each.

    `nodes` are those that the workers may be on, where these are not all.
    """

    size: int
    device: str
    cpus: int = 1
    nodes: frozenset[str] = frozenset()

    @property
    def scaling(self) -> ScalingConfig:
        """The team in Ray Train's terms."""
        on_gpu = self.device == "cuda"
        resources = {"CPU": self.cpus} | ({"GPU": 1} if on_gpu else {})
        where = make_node_selector(self.nodes) if self.nodes else None
        return ScalingConfig(
            num_workers=self.size, use_gpu=on_gpu, resources_per_worker=resources, label_selector=where
        )


def is_heavy(settings: Settings) -> bool:
    """Tell whether a step of the model keeps several cores busy; smaller models wait for them longer than they gain."""
    return settings.model.name == "pretrained" and settings.model.tuning != "frozen"


def refuse_workers(workers: int, device: str) -> None:
    """Refuse, before anything starts, workers that this machine cannot have.

    Raises:
        UserError: names how many there can be.
    """
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 worker trains; leave --workers out to train in this process")
    if device == "mps" and workers > 1:
        raise UserError(f"--workers {workers}: mps has one worker; --device cpu has {slots()}")
    if not os.environ.get("RAY_ADDRESS") and workers > slots():
        raise UserError(f"--workers {workers}: this machine has slots for {slots()} (CPU cores)")


def form_team(workers: int, device: str, settings: Settings, allowed_nodes: frozenset[str] | None = None) -> Team:
    """Return a team of the cluster that this process has joined; `device` auto takes GPUs where there are any.

    Args:
        among: the nodes that its workers may be on; None are all.

    Raises:
        UserError: they have not so many slots; tells how many there are.
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
    """Return a team on nodes that share `folder`, in which its workers keep what they go on from.

    Raises:
        UserError: too few nodes share it, or the cluster has not so many slots.
    """
    nodes = find_nodes_with(folder)
    if nodes >= list_alive_nodes():
        return form_team(workers, device, settings)
    try:
        return replace(form_team(workers, device, settings, nodes), nodes=nodes)
    except UserError as error:
        raise UserError(
            f"{error}, of which {len(nodes)} of {len(list_alive_nodes())} nodes count, those that share {folder} with "
            "this one; run the command in a folder on storage that all nodes share under the same path"
        ) from error


def count_offered_workers(folder: Path | None = None) -> int:
    """Return how many workers a cluster offers one training: its GPUs, or its nodes; a machine alone offers one.

    Of a cluster whose nodes do not all share `folder`, those count that do.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return 1
    nodes = _list_node_resources(None if folder is None else find_nodes_with(folder))
    return sum(_count_places(node, 1, True) for node in nodes) or max(1, sum(node.get("CPU", 0) >= 1 for node in nodes))


def form_trial_team(workers: int, cluster: Cluster) -> tuple[Team, int]:
    """Return the team of a study's trial, and how many such trials the cluster trains at once.

    Raises:
        UserError: it has no place for one; tells how many workers there can be.
    """
    places = round(cluster.slots * cluster.gpus_per_slot) if cluster.gpus_per_slot else cluster.slots
    if workers > places:
        raise UserError(f"resources.workers {workers}: the cluster has slots for {places}")
    return Team(workers, "cuda" if cluster.gpus_per_slot else "cpu"), places // workers


def train_trial_on_team(config: dict[str, Any], task: TrialData, team: Team, folder: Path) -> None:
    """Run one trial of a study as a Ray Train run; report after every epoch.

    Epochs come from the trial's folder, not through Ray's `TuneReportCallback`: its queue is an actor more, and holds
    Ray Train's controller up until Tune has taken what is in it.
    """
    trial_folder, n_reported = FitFolder(folder / str(config["number"])), 0

    def report() -> None:
        nonlocal n_reported
        for result in trial_folder.epoch_results[n_reported:]:
            n_reported += 1
            tune.report({"epochs": [asdict(result)]})

    trial_folder.remove()  # of an interrupted study, whose unfinished trials begin anew
    fit_on_team(FitJob(resolve(config["settings"]), task), trial_folder, team, report)
    trial_folder.remove()


def fit_on_team(
    job: FitJob,
    folder: FitFolder,
    team: Team,
    on_poll: Callable[[], None] = lambda: None,
) -> FitResult:
    """Run one training run on a team, from the folder's last checkpoint where there is one; return what it gave.

    `on_poll` is called all the time; `folder.results` tells how the run stands.

    Raises:
        WorkFailed: the run cannot go on, or workers died too often.
    """
    os.environ.update({name: value for name, value in RAY_TRAIN_ENVIRONMENT.items() if name not in os.environ})
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    folder.clear_failure()
    storage = folder.path / "ray"  # Ray Train keeps its own books; what counts is in the folder
    storage.mkdir(parents=True, exist_ok=True)
    trainer = LeanTorchTrainer(
        _run_worker,
        train_loop_config={"job": [ray.put(job)], "folder": folder, "team": team},
        torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=team.scaling,
        run_config=RunConfig(
            name=f"run-{os.urandom(4).hex()}",  # Ray Train would take up a run of the same name
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(team.cpus)}},
        ),
    )
    failure = _run_trainer(trainer, on_poll)
    folder.raise_failure()
    if failure is not None:
        raise WorkFailed(f"the workers of {folder.path.name} died too often: {last_line(failure)}") from failure
    fit = folder.fit_result
    assert fit is not None, "workers end well only once the fit is written"
    return fit


def _run_trainer(trainer: TorchTrainer, on_poll: Callable[[], None]) -> Exception | None:
    """Run Ray Train to its end; return its failure. In a thread: in the main one it would take Ctrl-C for itself."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            trainer.fit()
        except Exception as failure:  # crosses to the thread that waits
            failures.append(failure)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_INTERVAL_S)
        on_poll()
    return failures[0] if failures else None


def _run_worker(config: dict[str, Any]) -> None:
    """Be one worker."""
    folder: FitFolder = config["folder"]
    if folder.failure_reason is not None:
        return  # started again for a failure that would come again
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
    """Return the most CPU cores that each of `workers` can have, on as many nodes as it takes."""
    most = int(max(node.get("CPU", 0) for node in nodes))
    fitting = (c for c in range(1, most + 1) if sum(_count_places(node, c, on_gpu) for node in nodes) >= workers)
    return max(fitting, default=1)


def _count_places(node: ResourceAmounts, cpus: int, on_gpu: bool) -> int:
    """Return how many workers of `cpus` cores, each with a GPU or none, a node has room for."""
    by_cores = int(node.get("CPU", 0) // cpus)
    return min(by_cores, int(node.get("GPU", 0))) if on_gpu else by_cores


def _list_node_resources(allowed_nodes: frozenset[str] | None) -> list[ResourceAmounts]:
    """Return what each node, or each of these, has to offer."""
    return [
        n["Resources"] for n in ray.nodes() if n["Alive"] and (allowed_nodes is None or n["NodeID"] in allowed_nodes)
    ]


def _has_local_mps() -> bool:
    return not os.environ.get("RAY_ADDRESS") and torch.backends.mps.is_available()
