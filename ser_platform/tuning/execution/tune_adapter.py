"""The search: Ray Tune runs the trials, the book says which and for how long."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ser_platform.errors import UserError
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.distributed_fit import form_trial_team, train_trial_on_team
from ser_platform.tuning.execution.fit_folder import FitFolder
from ser_platform.tuning.execution.fit_job import TrialData, TrialJob
from ser_platform.tuning.execution.ray_compat import read_trial_error
from ser_platform.tuning.execution.remote_extraction import make_space_shipment
from ser_platform.tuning.execution.tune_trainable import WARMUP_CONFIG, TuneTrial
from ser_platform.tuning.search_space.space import Constraint, Objective
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome

ShowStatus = Callable[[], None]
StopTrial = Callable[[int], None]
RUN_NAME_PREFIX = "tune"  # the folder under runs/NAME/ in which Ray keeps its state of the trials
MAX_PROCESS_LOSSES = 2  # of a trial's process, after which it is run again: more are the trial's own doing
WARMUP_TIMEOUT_S = 30.0  # for a slot's process to begin, after the first has
MAX_TRIALS_PER_RUN = 1000  # of Tune: see tests/benchmarks/overhead.py


class UnpickledState:
    """Leaves its state out of the pickle that Tune makes of its parts: a study is resumed from its own journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RecorderSearcher(UnpickledState, Searcher):
    """Gives Tune the book's next trials, so many, until budget, time or space are used up: then the search is over.

    First come `starts`, one a process that is to be started: see `WorkerWarmup`.
    """

    def __init__(self, recorder: StudyRecorder, deadline: float, max_trials: int, n_warmups: int = 0) -> None:
        super().__init__(metric="best_dev_uar", mode="max")
        self._recorder, self._deadline, self._max_trials, self._n_warmups = recorder, deadline, max_trials, n_warmups
        self._n_suggested = 0
        self.is_over = False

    def suggest(self, trial_id: str) -> Any:
        if self._n_warmups:
            self._n_warmups -= 1
            return dict(WARMUP_CONFIG)
        record = (
            None
            if self._n_suggested >= self._max_trials
            else self._recorder.ask(is_in_time=time.monotonic() < self._deadline)
        )
        if record is None:
            self.is_over = self._n_suggested < self._max_trials
            return Searcher.FINISHED
        self._n_suggested += 1
        epochs = range(1, record.settings.train.epochs + 1)
        decides = {epoch for epoch in epochs if self._recorder.can_stop_at(record.number, epoch)}
        return {"number": record.number, "settings": record.settings.dotted(), "decides": decides}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: this hook is not told why a trial ended; `RecorderScheduler` is."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study is resumed from its journal."""


class WorkerWarmup:
    """Waits until the processes of all slots have begun: Tune gives up one that begins while a trial ends elsewhere.

    Tune has the trial that waits for the new process take the free one instead, and the next trial asks for a new one
    again: where trials are shorter than a process takes to begin, all of them run in the first. So each slot first gets
    a trial that does nothing, and ends once all are there, or `WARMUP_TIMEOUT_S` after the first.
    """

    def __init__(self, n_workers: int) -> None:
        self._wanted, self._begun, self._first = n_workers, set[str](), math.inf

    def mark_started(self, trial_id: str) -> bool:
        """Note that a slot's process is there; tell whether it is waited for no others."""
        self._first = min(self._first, time.monotonic())
        self._begun.add(trial_id)
        return len(self._begun) >= self._wanted or time.monotonic() - self._first > WARMUP_TIMEOUT_S


class RecorderScheduler(UnpickledState, FIFOScheduler):
    """Passes every result, end and failure to the book, and its decisions to Tune.

    A trial whose process is gone, as with its node, is run again, under its number.
    A trial of several workers is asked to end (`stop_trial`), by which it gives their places back: Tune would kill it.
    """

    def __init__(
        self, recorder: StudyRecorder, show_status: ShowStatus, stop_trial: StopTrial | None = None, n_warmups: int = 0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of Ray
        self._recorder, self._show_status, self._stop_trial, self._warmup = (
            recorder,
            show_status,
            stop_trial,
            WorkerWarmup(n_warmups),
        )
        self._n_losses: Counter[int] = Counter()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if number is None:
            return TrialScheduler.STOP if self._warmup.mark_started(trial.trial_id) else TrialScheduler.CONTINUE
        stopped = self._record_epochs(number, result)
        self._show_status()
        if stopped and self._stop_trial is not None:
            self._stop_trial(number)
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE

    def _record_epochs(self, number: int, result: dict[str, Any]) -> bool:
        """Pass the epochs of a result to the book, once; tell whether the trial is to be stopped."""
        record = self._recorder.records[number]  # a trial that was asked to end may tell an epoch more
        return any(
            record.state == Outcome.RUNNING and self._recorder.record_epoch(number, epoch)
            for epoch in result.get("epochs", ())
        )

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if number is None:
            return
        self._record_epochs(number, result)  # Tune asks for no decision on the last result of a trial
        self._recorder.finish(number, result.get("failure", ""))
        self._show_status()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        number, error = trial.config["number"], read_trial_error(trial)
        if number is None:
            return  # what kept it from beginning comes to the trials too
        if not _is_process_lost(error):
            self._recorder.finish(number, failure=_last_line(error))
        else:
            self._n_losses[number] += 1
            if (times := self._n_losses[number]) <= MAX_PROCESS_LOSSES:
                self._recorder.requeue(number)
            else:
                reason = f"its process was killed {times} times, as the system does when memory runs out"
                self._recorder.finish(number, failure=reason)
        self._show_status()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._show_status()  # called all the time, also while no trial reports
        return super().choose_trial_to_run(tune_controller)


def _is_process_lost(error: Exception | None) -> bool:
    """Tell whether a trial's process was killed, itself or with its node; one that could not begin never will."""
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    return isinstance(error, OutOfMemoryError)


def _last_line(error: Any) -> str:
    """Return one line on why a trial failed: the last of the traceback that came from its process."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a reason"


def search(
    recorder: StudyRecorder,
    fold_data: Sequence[TrialData],
    cluster: Cluster,
    folder: StudyFolder,
    show_status: ShowStatus = lambda: None,
) -> None:
    """Run the trials of a study, each on one task or on one a fold.

    Raises:
        UserError: the cluster has no place for a trial.
    """
    trials = FitFolder(folder.path / "trials")
    trial_resources = _make_trial_resources(recorder, fold_data, cluster, trials)
    stop = (
        (lambda number: FitFolder(trials.path / str(number)).request_stop())
        if recorder.space.resources.workers
        else None
    )
    run_trials(recorder, trial_resources, folder, show_status, stop)
    trials.remove()


@dataclass(frozen=True)
class TrialResources:
    """How Tune runs a trial: by what, with which resources, how many at once.

    `starts`: whether the trainable knows `START`.
    """

    trainable: Any
    resources: dict[str, float]
    max_concurrent: int
    has_warmup: bool = True


def run_trials(
    recorder: StudyRecorder,
    trial_resources: TrialResources,
    folder: StudyFolder,
    show_status: ShowStatus = lambda: None,
    stop_trial: StopTrial | None = None,
) -> None:
    """Run the book's trials until budget, time or space are used up.

    A long study is several Tune runs over one book: what Tune keeps of each trial costs time in every step of its loop.
    """
    deadline = time.monotonic() + 60 * recorder.space.budget.minutes
    is_over = False
    while not is_over:
        in_time = deadline - time.monotonic() > WARMUP_TIMEOUT_S  # for waiting till all processes are there
        n_warmups = (
            min(trial_resources.max_concurrent, recorder.n_trials_left) if trial_resources.has_warmup and in_time else 0
        )
        searcher = RecorderSearcher(recorder, deadline, MAX_TRIALS_PER_RUN, n_warmups)
        _run_tune(searcher, RecorderScheduler(recorder, show_status, stop_trial, n_warmups), trial_resources, folder)
        is_over = searcher.is_over and not recorder.has_requeued


def _make_trial_resources(
    recorder: StudyRecorder, fold_data: Sequence[TrialData], cluster: Cluster, trials: FitFolder
) -> TrialResources:
    space = recorder.space
    shipment = make_space_shipment(space, fold_data[0].all_hashes)
    fold_data = [replace(task, shipment=shipment) for task in fold_data]
    if space.resources.workers:
        if len(fold_data) > 1:
            raise UserError("resources.workers and data.folds cannot be together: a team trains one model")
        team, at_once = form_trial_team(space.resources.workers, cluster)
        function = tune.with_parameters(train_trial_on_team, task=fold_data[0], team=team, folder=trials.path)
        # A byte: Tune knows no trial without resources.
        return TrialResources(function, {"memory": 1}, at_once, has_warmup=False)
    cluster = cluster.plan_trial_slots(space.resources)
    judged: list[Objective | Constraint] = [*space.objectives, *space.constraints]
    measures = tuple(goal.metric for goal in judged)
    job = TrialJob(tuple(fold_data), measures, cluster.cpus_per_slot, cluster.gpus_per_slot)
    resources = {"cpu": cluster.cpus_per_slot} | ({"gpu": cluster.gpus_per_slot} if cluster.gpus_per_slot else {})
    return TrialResources(tune.with_parameters(TuneTrial, job=job), resources, cluster.slots)


def _run_tune(
    searcher: RecorderSearcher, scheduler: RecorderScheduler, trial_resources: TrialResources, folder: StudyFolder
) -> None:
    """Run Tune until the searcher has no trial left."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the book tells why a trial failed, in a line
    tuner = tune.Tuner(
        tune.with_resources(trial_resources.trainable, trial_resources.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=trial_resources.max_concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder.path),
            name=f"{RUN_NAME_PREFIX}-{time.time_ns():x}",
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
