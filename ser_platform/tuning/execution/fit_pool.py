"""Training runs outside a search, as Ray tasks or by teams of workers: new seeds, fold teachers, final fits, timing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from ser_platform.files import digest_of
from ser_platform.models import PRETRAINED
from ser_platform.settings import Settings
from ser_platform.training.state_serialisation import compute_fingerprint
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.data_transfer import make_shipment_for
from ser_platform.tuning.execution.distributed_fit import (
    count_offered_workers,
    fit_on_team,
    form_team_sharing,
    is_heavy,
)
from ser_platform.tuning.execution.fit_folder import FitFolder
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, fit, time_epoch_alone
from ser_platform.tuning.search_space.requirements import iterate_input_settings
from ser_platform.tuning.search_space.space import Space

ProgressCallback = Callable[[int, int], None]
ShowProgress = Callable[[str], AbstractContextManager[ProgressCallback]]  # what is counted -> shows (done, all)


def attach_shipment(job: FitJob) -> FitJob:
    """Return the job with what nodes that do not share the driver's store need for it."""
    task = job.data
    return replace(job, data=replace(task, shipment=make_shipment_for(job.settings, task.all_hashes)))


def fit_all(jobs: Sequence[FitJob], cluster: Cluster, progress: ProgressCallback) -> list[FitResult]:
    """Run the jobs on the cluster's slots; return their fits in the order of `jobs`."""
    task: Any = ray.remote(num_cpus=cluster.cpus_per_slot, num_gpus=cluster.gpus_per_slot, max_retries=2)(fit)
    waiting = [task.remote(attach_shipment(job), cluster.gpus_per_slot, cluster.cpus_per_slot) for job in jobs]
    everything = list(waiting)
    while waiting:
        _, waiting = ray.wait(waiting, timeout=1.0)
        progress(len(jobs) - len(waiting), len(jobs))
    fits: list[FitResult] = ray.get(everything)
    return fits


@dataclass(frozen=True)
class FinalistTrainer:
    """How the runs are trained of which one becomes a study's candidate.

    A model whose steps keep a machine busy is trained by a team of workers, one run after another, with a checkpoint
    each epoch under `folder`: a run lasts hours, and goes on after a kill. Others take seconds, where a team takes 20
    to start: they are Ray tasks, and only the winner of a pretrained teacher's is trained once more, by a team.

    Attributes:
        workers: of each run's team; 0 takes what the cluster offers.
    """

    role: str
    cluster: Cluster
    folder: Path
    workers: int = 0

    def train_all(self, jobs: Sequence[FitJob], progress: ProgressCallback) -> list[FitResult]:
        """Run the jobs; return their fits in the order of `jobs`."""
        if not self.workers and not any(is_heavy(job.settings) for job in jobs):
            return fit_all(jobs, self.cluster, progress)
        fits = []
        for number, job in enumerate(jobs):
            progress(number, len(jobs))
            fits.append(self.train_on_team(job))
        progress(len(jobs), len(jobs))
        return fits

    def train_final(self, job: FitJob, confirmed: FitResult, progress: ProgressCallback) -> FitResult:
        """Return the candidate's fit: of a pretrained teacher trained by a team, else the one that won."""
        if self.workers or is_heavy(job.settings) or not self._is_pretrained_teacher(job.settings):
            return confirmed
        progress(0, 1)
        fit = self.train_on_team(job)
        progress(1, 1)
        return fit

    def train_on_team(self, job: FitJob) -> FitResult:
        """Run a job by a team; one that has ended before is not trained again."""
        clips = compute_fingerprint(job.data.make_training_data(job.settings))
        folder = FitFolder(self.folder / digest_of([job.settings.dotted(), clips], 16))
        kept = folder.fit_result
        if kept is not None:
            return kept
        team = form_team_sharing(folder.path, self.workers or count_offered_workers(folder.path), "auto", job.settings)
        return fit_on_team(attach_shipment(job), folder, team)

    def remove_folder(self) -> None:
        """Remove what was kept: the candidate is registered."""
        FitFolder(self.folder).remove()

    def _is_pretrained_teacher(self, settings: Settings) -> bool:
        return self.role == "teacher" and settings.model.name in PRETRAINED


def require_team_slots(space: Space, folder: Path) -> None:
    """Refuse a study whose candidate may be trained by a team, for which no node that shares `folder` has a place.

    Raises:
        UserError: there is none; says which nodes count.
    """
    if space.resources.workers:
        return  # their places are asked for by name
    for settings in iterate_input_settings(space):
        if is_heavy(settings) or (space.role == "teacher" and settings.model.name in PRETRAINED):
            form_team_sharing(folder, count_offered_workers(folder), "auto", settings)
            return


def time_epochs_alone(jobs: Sequence[FitJob], cluster: Cluster) -> list[float]:
    """Return each job's seconds for an epoch, one after another on one slot with the others idle."""
    task: Any = ray.remote(num_cpus=cluster.cpus_per_slot, num_gpus=cluster.gpus_per_slot)(time_epoch_alone)
    return [ray.get(task.remote(attach_shipment(job), cluster.gpus_per_slot, cluster.cpus_per_slot)) for job in jobs]
