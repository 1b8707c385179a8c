"""The search: Ray Tune runs the trials, the book says which and for how long."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ser_platform.errors import UserError
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.distributed_fit import train_trial_together, trial_team
from ser_platform.tuning.execution.fit_folder import FitFolder
from ser_platform.tuning.execution.fit_job import Task, TrialJob
from ser_platform.tuning.execution.remote_extraction import offer_for_space
from ser_platform.tuning.execution.tune_trainable import START, TuneTrial
from ser_platform.tuning.search_space.space import Constraint, Objective
from ser_platform.tuning.study.recorder import RUNNING, StudyBook, TrialRecord
from ser_platform.tuning.study.study_folder import StudyFolder

Shown = Callable[[], None]
Stop = Callable[[int], None]
CAPTION = "tune"  # the folder under runs/NAME/ in which Ray keeps its state of the trials
LOSSES = 2  # of a trial's process, after which it is run again: more are the trial's own doing
PATIENCE_S = 30.0  # for a slot's process to begin, after the first has
TRIALS_OF_A_RUN = 1000  # of Tune: see tests/benchmarks/overhead.py


class Unpickled:
    """Leaves its state out of the pickle that Tune makes of its parts: a study is resumed from its own journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class BookSearcher(Unpickled, Searcher):
    """Gives Tune the book's next trials, so many, until budget, time or space are used up: then the search is over.

    First come `starts`, one a process that is to be started: see `Starts`.
    """

    def __init__(self, book: StudyBook, deadline: float, at_most: int, starts: int = 0) -> None:
        super().__init__(metric="best_dev_uar", mode="max")
        self._book, self._deadline, self._at_most, self._starts = book, deadline, at_most, starts
        self._given = 0
        self.is_over = False

    def suggest(self, trial_id: str) -> Any:
        if self._starts:
            self._starts -= 1
            return dict(START)
        record = None if self._given >= self._at_most else self._book.ask(in_time=time.monotonic() < self._deadline)
        if record is None:
            self.is_over = self._given < self._at_most
            return Searcher.FINISHED
        self._given += 1
        epochs = range(1, record.settings["train.epochs"] + 1)
        decides = {epoch for epoch in epochs if self._book.decides_at(record.number, epoch)}
        return {"number": record.number, "settings": record.settings, "decides": decides}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: this hook is not told why a trial ended; `BookScheduler` is."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study is resumed from its journal."""


class Starts:
    """Waits until the processes of all slots have begun: Tune gives up one that begins while a trial ends elsewhere.

    Tune has the trial that waits for the new process take the free one instead, and the next trial asks for a new one
    again: where trials are shorter than a process takes to begin, all of them run in the first.
    So each slot first gets a trial that does nothing, and ends once all are there, or `PATIENCE_S` after the first.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted, self._begun, self._first = wanted, set[str](), math.inf

    def are_over(self, trial_id: str) -> bool:
        """Note that a slot's process is there; tell whether it is waited for no others."""
        self._first = min(self._first, time.monotonic())
        self._begun.add(trial_id)
        return len(self._begun) >= self._wanted or time.monotonic() - self._first > PATIENCE_S


class BookScheduler(Unpickled, FIFOScheduler):
    """Passes every result, end and failure to the book, and its decisions to Tune.

    A trial whose process is gone, as with its node, is run again, under its number.
    A trial of several workers is asked to end (`stop`), by which it gives their places back: Tune would kill it.
    """

    def __init__(self, book: StudyBook, shown: Shown, stop: Stop | None = None, starts: int = 0) -> None:
        super().__init__()
        self._book, self._shown, self._stop, self._starts = book, shown, stop, Starts(starts)
        self._losses: Counter[int] = Counter()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if number is None:
            return TrialScheduler.STOP if self._starts.are_over(trial.trial_id) else TrialScheduler.CONTINUE
        stopped = self._take(number, result)
        self._shown()
        if stopped and self._stop is not None:
            self._stop(number)
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE

    def _take(self, number: int, result: dict[str, Any]) -> bool:
        """Pass the epochs of a result to the book, once; tell whether the trial is to be stopped."""
        record = self._book.records[number]  # a trial that was asked to end may tell an epoch more
        return any(record.state == RUNNING and self._book.epoch(number, epoch) for epoch in result.get("epochs", ()))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if number is None:
            return
        self._take(number, result)  # Tune asks for no decision on the last result of a trial
        self._book.end(number, result.get("failure", ""))
        self._shown()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        number, error = trial.config["number"], _error_of(trial)
        if number is None:
            return  # what kept it from beginning comes to the trials too
        if not _is_lost(error):
            self._book.end(number, failure=_reason(error))
        else:
            self._losses[number] += 1
            if (times := self._losses[number]) <= LOSSES:
                self._book.again(number)
            else:
                reason = f"its process was killed {times} times, as the system does when memory runs out"
                self._book.end(number, failure=reason)
        self._shown()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._shown()  # called all the time, also while no trial reports
        return super().choose_trial_to_run(tune_controller)


def _error_of(trial: Any) -> Exception | None:
    """Return what ended a trial, from where Tune has just written it: it comes to where Tune reads it only later."""
    path = trial.pickled_error_file
    error: Exception | None = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None
    return error


def _is_lost(error: Exception | None) -> bool:
    """Tell whether a trial's process was killed, itself or with its node; one that could not begin never will."""
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    return isinstance(error, OutOfMemoryError)


def _reason(error: Any) -> str:
    """Return one line on why a trial failed: the last of the traceback that came from its process."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a reason"


def search(
    book: StudyBook, tasks: Sequence[Task], where: Cluster, folder: StudyFolder, shown: Shown = lambda: None
) -> list[TrialRecord]:
    """Run the trials of a study, each on one task or on one a fold; return those that may become the candidate.

    They are the best first.

    Raises:
        UserError: the cluster has no place for a trial.
    """
    trials = FitFolder(folder.path / "trials")
    means = _means(book, tasks, where, trials)
    stop = (lambda number: FitFolder(trials.path / str(number)).stop()) if book.space.resources.workers else None
    run_trials(book, means, folder, shown, stop)
    trials.clear()
    return book.ranked()


@dataclass(frozen=True)
class Means:
    """How Tune runs a trial: by what, with which resources, how many at once.

    `starts`: whether the trainable knows `START`.
    """

    trainable: Any
    resources: dict[str, float]
    at_once: int
    starts: bool = True


def run_trials(
    book: StudyBook, means: Means, folder: StudyFolder, shown: Shown = lambda: None, stop: Stop | None = None
) -> None:
    """Run the book's trials until budget, time or space are used up.

    A long study is several Tune runs over one book: what Tune keeps of each trial costs time in every step of its loop.
    """
    deadline = time.monotonic() + 60 * book.space.budget.minutes
    is_over = False
    while not is_over:
        in_time = deadline - time.monotonic() > PATIENCE_S  # for waiting till all processes are there
        starts = min(means.at_once, book.left) if means.starts and in_time else 0
        searcher = BookSearcher(book, deadline, TRIALS_OF_A_RUN, starts)
        _run(searcher, BookScheduler(book, shown, stop, starts), means, folder)
        is_over = searcher.is_over and not book.has_lost


def _means(book: StudyBook, tasks: Sequence[Task], where: Cluster, trials: FitFolder) -> Means:
    space = book.space
    shipment = offer_for_space(space, tasks[0].everything)
    tasks = [replace(task, shipment=shipment) for task in tasks]
    if space.resources.workers:
        if len(tasks) > 1:
            raise UserError("resources.workers and data.folds cannot be together: a team trains one model")
        team, at_once = trial_team(space.resources.workers, where)
        function = tune.with_parameters(train_trial_together, task=tasks[0], team=team, folder=trials.path)
        # A byte: Tune knows no trial without resources.
        return Means(function, {"memory": 1}, at_once, starts=False)
    where = where.for_trials(space.resources)
    judged: list[Objective | Constraint] = [*space.objectives, *space.constraints]
    measures = tuple(goal.metric for goal in judged)
    job = TrialJob(tuple(tasks), measures, where.cpus, where.gpus)
    resources = {"cpu": where.cpus} | ({"gpu": where.gpus} if where.gpus else {})
    return Means(tune.with_parameters(TuneTrial, job=job), resources, where.slots)


def _run(searcher: BookSearcher, scheduler: BookScheduler, means: Means, folder: StudyFolder) -> None:
    """Run Tune until the searcher has no trial left."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the book tells why a trial failed, in a line
    tuner = tune.Tuner(
        tune.with_resources(means.trainable, means.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=means.at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder.path),
            name=f"{CAPTION}-{time.time_ns():x}",
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
