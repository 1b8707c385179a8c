"""The search of a study: Ray Tune runs the trials that the study's recorder proposes, until it stops them."""

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

from ser_platform.errors import UserError, last_line
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.distributed_fit import form_trial_team, train_trial_on_team
from ser_platform.tuning.execution.fit_folder import FitFolder
from ser_platform.tuning.execution.fit_job import TrialData, TrialJob
from ser_platform.tuning.execution.ray_compat import read_trial_error
from ser_platform.tuning.execution.remote_extraction import make_space_shipment
from ser_platform.tuning.execution.tune_trainable import WARMUP_CONFIG, TuneTrial
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome

ShowStatus = Callable[[], None]
PrintLine = Callable[[str], None]
StopTrial = Callable[[int], None]
RUN_NAME_PREFIX = "tune"  # of the folders under runs/NAME/ in which Tune stores its state
MAX_PROCESS_LOSSES = 2  # a trial whose process is lost more often has failed
PROCESS_LOST = "its process was killed, as the system does when memory runs out"
WARMUP_TIMEOUT_S = 30.0  # for the processes of all slots to start, after the first
MAX_TRIALS_PER_RUN = 1000  # of one Tune run; measured in tests/benchmarks/overhead.py


class UnpickledState:
    """Has no state in the pickles that Tune writes: a study is resumed from its own journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RecorderSearcher(UnpickledState, Searcher):
    """Suggests the recorder's next trials to Tune, at most `max_trials`, after `n_warmups` warm-ups (`WorkerWarmup`).

    `is_over` is set once the budget, the time or the space is used up.
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
        if self._n_suggested >= self._max_trials:
            return Searcher.FINISHED
        record = self._recorder.ask(is_in_time=time.monotonic() < self._deadline)
        if record is None:
            self.is_over = True
            return Searcher.FINISHED
        self._n_suggested += 1
        epochs = range(1, record.settings.train.epochs + 1)
        decides = {epoch for epoch in epochs if self._recorder.can_stop_at(record.number, epoch)}
        return {"number": record.number, "settings": record.settings.dotted(), "decides": decides}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: Tune does not pass the reason here; `RecorderScheduler` handles the end of a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is in its journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study is resumed from its journal."""


class WorkerWarmup:
    """Waits until the processes of all slots have started.

    If a trial ends while a new process starts, Tune runs the waiting trial in the free process and discards the new
    one: trials shorter than the start of a process would all run in the first. So each slot first gets a trial that
    does nothing until all processes have started, or `WARMUP_TIMEOUT_S` after the first.
    """

    def __init__(self, n_workers: int) -> None:
        self._n_workers, self._started, self._first = n_workers, set[str](), math.inf

    def mark_started(self, trial_id: str) -> bool:
        """Record the start of a slot's process; return whether the warm-up is over."""
        self._first = min(self._first, time.monotonic())
        self._started.add(trial_id)
        return len(self._started) >= self._n_workers or time.monotonic() - self._first > WARMUP_TIMEOUT_S


class RecorderScheduler(UnpickledState, FIFOScheduler):
    """Passes every result, end and failure of a trial to the recorder, and the recorder's decisions to Tune.

    A trial whose process was lost, for example with its node, runs again under its number. A trial on a team of workers
    is stopped with `stop_trial`, so that it frees their resources: Tune would kill it.
    """

    def __init__(
        self,
        recorder: StudyRecorder,
        show_status: ShowStatus,
        stop_trial: StopTrial | None = None,
        n_warmups: int = 0,
        print_line: PrintLine = lambda line: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of Ray
        self._recorder, self._show_status, self._stop_trial = recorder, show_status, stop_trial
        self._print_line = print_line
        self._warmup = WorkerWarmup(n_warmups)
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
        """Pass the epochs of a result to the recorder; return whether the trial must stop."""
        record = self._recorder.records[number]  # a stopped trial on a team can report one more epoch
        return any(
            record.state == Outcome.RUNNING and self._recorder.record_epoch(number, epoch)
            for epoch in result.get("epochs", ())
        )

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if number is None:
            return
        self._record_epochs(number, result)  # Tune does not pass a trial's last result to `on_trial_result`
        self._recorder.finish(number, result.get("failure", ""))
        self._show_status()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        number, error = trial.config["number"], read_trial_error(trial)
        if number is None:
            return  # an error at the start of a process repeats in the trials
        if not _is_process_lost(error):
            self._recorder.finish(number, failure=last_line(error) if error else "ended without a reason")
        else:
            self._n_losses[number] += 1
            if (times := self._n_losses[number]) <= MAX_PROCESS_LOSSES:
                self._print_line(f"trial {number}: {PROCESS_LOST}; the trial runs again")
                self._recorder.requeue(number)
            else:
                self._recorder.finish(number, failure=f"{PROCESS_LOST}, {times} times")
        self._show_status()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._show_status()  # Tune calls this in every step, also while no trial reports
        return super().choose_trial_to_run(tune_controller)


def _is_process_lost(error: Exception | None) -> bool:
    """Return whether a trial's process was killed or its node lost. A process that failed to start is not retried."""
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    return isinstance(error, OutOfMemoryError)


def search(
    recorder: StudyRecorder,
    fold_data: Sequence[TrialData],
    cluster: Cluster,
    folder: StudyFolder,
    show_status: ShowStatus = lambda: None,
    print_line: PrintLine = lambda line: None,
) -> None:
    """Run the trials of a study, each on `fold_data`: one element, or one for each fold.

    Raises:
        UserError: the cluster has no resources for a trial.
    """
    trials = FitFolder(folder.path / "trials")
    trial_resources = _make_trial_resources(recorder, fold_data, cluster, trials)

    def stop_trial(number: int) -> None:
        FitFolder(trials.path / str(number)).request_stop()

    has_teams = bool(recorder.space.resources.workers)
    run_trials(recorder, trial_resources, folder, show_status, stop_trial if has_teams else None, print_line)
    trials.remove()


@dataclass(frozen=True)
class TrialResources:
    """A trainable, the resources of a trial, the number of concurrent trials, and whether it supports warm-ups."""

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
    print_line: PrintLine = lambda line: None,
) -> None:
    """Run the recorder's trials until the budget, the time or the space is used up.

    A long study is several Tune runs with one recorder: each step of Tune's loop takes time for every trial of its run.
    """
    deadline = time.monotonic() + 60 * recorder.space.budget.minutes
    is_over = False
    while not is_over:
        n_warmups = 0
        if trial_resources.has_warmup and deadline - time.monotonic() > WARMUP_TIMEOUT_S:
            n_warmups = min(trial_resources.max_concurrent, recorder.n_trials_left)
        searcher = RecorderSearcher(recorder, deadline, MAX_TRIALS_PER_RUN, n_warmups)
        scheduler = RecorderScheduler(recorder, show_status, stop_trial, n_warmups, print_line)
        _run_tune(searcher, scheduler, trial_resources, folder)
        is_over = searcher.is_over and not recorder.has_requeued


def _make_trial_resources(
    recorder: StudyRecorder, fold_data: Sequence[TrialData], cluster: Cluster, trials: FitFolder
) -> TrialResources:
    space = recorder.space
    shipment = make_space_shipment(space, fold_data[0].all_hashes)
    fold_data = [replace(task, shipment=shipment) for task in fold_data]
    if space.resources.workers:
        if len(fold_data) > 1:
            raise UserError("resources.workers and data.folds exclude each other: a team trains one model; remove one")
        team, at_once = form_trial_team(space.resources.workers, cluster)
        function = tune.with_parameters(train_trial_on_team, task=fold_data[0], team=team, folder=trials.path)
        # One byte: Tune does not accept a trial without resources.
        return TrialResources(function, {"memory": 1}, at_once, has_warmup=False)
    cluster = cluster.plan_trial_slots(space.resources)
    metrics = (*(goal.metric for goal in space.objectives), *(limit.metric for limit in space.constraints))
    job = TrialJob(tuple(fold_data), metrics, cluster.cpus_per_slot, cluster.gpus_per_slot)
    resources = {"cpu": cluster.cpus_per_slot} | ({"gpu": cluster.gpus_per_slot} if cluster.gpus_per_slot else {})
    return TrialResources(tune.with_parameters(TuneTrial, job=job), resources, cluster.slots)


def _run_tune(
    searcher: RecorderSearcher, scheduler: RecorderScheduler, trial_resources: TrialResources, folder: StudyFolder
) -> None:
    """Run Tune until the searcher has no trial left."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the recorder reports failed trials in one line
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
