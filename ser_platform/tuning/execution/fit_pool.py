"""Training runs outside a search, as Ray tasks or on teams of workers: new seeds, fold teachers, final runs, timing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from ser_platform.errors import WorkFailed
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
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, fit
from ser_platform.tuning.search_space.requirements import iterate_input_settings
from ser_platform.tuning.search_space.space import Space

ProgressCallback = Callable[[int, int], None]
MAX_RETRIES = 2  # of a job whose process was killed
ShowProgress = Callable[[str], AbstractContextManager[ProgressCallback]]  # title -> shows "title done/all"


def attach_shipment(job: FitJob) -> FitJob:
    """Return the job with the data for nodes that do not share the driver's store."""
    shipment = make_shipment_for(job.settings, job.data.all_hashes)
    return replace(job, data=replace(job.data, shipment=shipment))


def fit_all(
    jobs: Sequence[FitJob],
    cluster: Cluster,
    progress: ProgressCallback,
    on_result: Callable[[int, FitResult], None] = lambda number, result: None,
) -> list[FitResult]:
    """Run the jobs on the cluster's slots; return their results in the order of `jobs`.

    `on_result(number, result)` is called as each job ends.

    Raises:
        WorkFailed: the process of a job was killed, also when it was repeated.
    """
    task: Any = ray.remote(num_cpus=cluster.cpus_per_slot, num_gpus=cluster.gpus_per_slot, max_retries=MAX_RETRIES)(fit)
    waiting = [task.remote(attach_shipment(job), cluster.gpus_per_slot, cluster.cpus_per_slot) for job in jobs]
    numbers = {reference: number for number, reference in enumerate(waiting)}
    fits: dict[int, FitResult] = {}
    while waiting:
        ended, waiting = ray.wait(waiting, timeout=1.0)
        for reference in ended:
            number = numbers[reference]
            fits[number] = _get_result(reference)
            on_result(number, fits[number])
        progress(len(jobs) - len(waiting), len(jobs))
    return [fits[number] for number in range(len(jobs))]


def _get_result(reference: Any) -> FitResult:
    try:
        result: FitResult = ray.get(reference)
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise WorkFailed(
            f"a training process was killed {MAX_RETRIES + 1} times, as the system does when memory runs out; all "
            "results so far are saved: free memory and continue with --resume"
        ) from error
    return result


@dataclass(frozen=True)
class FinalistTrainer:
    """Trains the finalists of a study, of which one becomes its candidate.

    Heavy models (`is_heavy`) are trained by a team of workers, one run after another, with a checkpoint each epoch
    under `folder`: a run lasts hours and can be resumed. Others take seconds, less than the 20 s to start a team: they
    are Ray tasks, and only the winner of a pretrained teacher is trained once more by a team.

    Attributes:
        workers: workers of each team; 0 for the number that the cluster offers.
    """

    role: str
    cluster: Cluster
    folder: Path
    workers: int = 0

    def train_all(self, jobs: Sequence[FitJob], progress: ProgressCallback) -> list[FitResult]:
        """Run the jobs; return their results in the order of `jobs`."""
        if not self.workers and not any(is_heavy(job.settings) for job in jobs):
            return fit_all(jobs, self.cluster, progress)
        fits = []
        for number, job in enumerate(jobs):
            progress(number, len(jobs))
            fits.append(self.train_on_team(job))
        progress(len(jobs), len(jobs))
        return fits

    def train_final(self, job: FitJob, confirmed: FitResult, progress: ProgressCallback) -> FitResult:
        """Return the candidate's result: `confirmed`, or a run on a team for a pretrained teacher."""
        if self.workers or is_heavy(job.settings) or not self._is_pretrained_teacher(job.settings):
            return confirmed
        progress(0, 1)
        fit = self.train_on_team(job)
        progress(1, 1)
        return fit

    def train_on_team(self, job: FitJob) -> FitResult:
        """Return the result of a job on a team; a stored result is returned without training."""
        clips = compute_fingerprint(job.data.make_training_data(job.settings))
        folder = FitFolder(self.folder / digest_of([job.settings.dotted(), clips], 16))
        if (stored := folder.fit_result) is not None:
            return stored
        team = form_team_sharing(folder.path, self.workers or count_offered_workers(folder.path), "auto", job.settings)
        return fit_on_team(attach_shipment(job), folder, team)

    def remove_folder(self) -> None:
        """Remove the checkpoints and results, after the candidate is registered."""
        FitFolder(self.folder).remove()

    def _is_pretrained_teacher(self, settings: Settings) -> bool:
        return self.role == "teacher" and settings.model.name in PRETRAINED


def require_team_slots(space: Space, folder: Path) -> None:
    """Raise UserError if a team may have to train the study's candidate and no node that shares `folder` has a slot."""
    if space.resources.workers:
        return  # checked by `form_trial_team`
    for settings in iterate_input_settings(space):
        if is_heavy(settings) or (space.role == "teacher" and settings.model.name in PRETRAINED):
            form_team_sharing(folder, count_offered_workers(folder), "auto", settings)
            return
