"""The search: Ray Tune runs the trials, the book says which and for how long."""

import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ser_platform.tuning.book import RUNNING, StudyBook, TrialRecord
from ser_platform.tuning.cluster import Cluster
from ser_platform.tuning.distributed import train_trial_together, trial_team
from ser_platform.tuning.journal import StudyFolder
from ser_platform.tuning.keeping import FitFolder
from ser_platform.tuning.trainable import Task, train_trial

Shown = Callable[[], None]
CAPTION = "tune"  # the folder under runs/NAME/ in which Ray keeps its state of the trials


class Unpickled:
    """Leaves its state out of the pickle that Tune makes of its parts: a study is resumed from its own journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class BookSearcher(Unpickled, Searcher):
    """Gives Tune the book's next trial until budget, time or space are used up."""

    def __init__(self, book: StudyBook, deadline: float) -> None:
        super().__init__(metric="best_dev_uar", mode="max")
        self._book, self._deadline = book, deadline

    def suggest(self, trial_id: str) -> Any:
        record = self._book.ask() if time.monotonic() < self._deadline else None
        if record is None:
            return Searcher.FINISHED
        return {"number": record.number, "settings": record.settings}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: this hook is not told why a trial ended; `BookScheduler` is."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a study is resumed from its journal."""


class BookScheduler(Unpickled, FIFOScheduler):
    """Passes every result, end and failure to the book, and its decisions to Tune.

    A trial of several workers is asked to end (`stop`), by which it gives their places back: Tune would kill it.
    """

    def __init__(self, book: StudyBook, shown: Shown, stop: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._book, self._shown, self._stop = book, shown, stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        is_open = self._book.records[number].state == RUNNING  # one that was asked to end may tell an epoch more
        stopped = is_open and "epoch" in result and self._book.epoch(number, result)
        self._shown()
        if stopped and self._stop is not None:
            self._stop(number)
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._book.end(trial.config["number"])
        self._shown()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._book.end(trial.config["number"], failure=_reason(trial.get_error()))
        self._shown()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        self._shown()  # called all the time, also while no trial reports
        return super().choose_trial_to_run(tune_controller)


def _reason(error: Any) -> str:
    """Return one line on why a trial failed: the last of the traceback that came from its process."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a reason"


def search(
    book: StudyBook, task: Task, where: Cluster, folder: StudyFolder, shown: Shown = lambda: None
) -> list[TrialRecord]:
    """Run the trials of a study; return them all, best first.

    Raises:
        UserError: the cluster has no place for a trial's workers.
    """
    deadline = time.monotonic() + 60 * book.space.budget.minutes
    trials = FitFolder(folder.path / "trials")
    resources: dict[str, float]
    if book.space.resources.workers:
        team, at_once = trial_team(book.space.resources.workers, where)
        function = tune.with_parameters(train_trial_together, task=task, team=team, folder=trials.path)
        resources = {"memory": 1}  # a byte: Tune knows no trial without resources, and its workers have theirs
    else:
        at_once = where.slots
        function = tune.with_parameters(train_trial, task=task, gpus=where.gpus)
        resources = {"cpu": 1, "gpu": where.gpus} if where.gpus else {"cpu": 1}
    stop = (lambda number: FitFolder(trials.path / str(number)).stop()) if book.space.resources.workers else None
    tuner = tune.Tuner(
        tune.with_resources(function, resources),
        tune_config=tune.TuneConfig(
            search_alg=BookSearcher(book, deadline),
            scheduler=BookScheduler(book, shown, stop),
            num_samples=-1,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder.path), name=f"{CAPTION}-{time.time_ns():x}", verbose=0),
    )
    tuner.fit()
    trials.clear()
    scored = [record for record in book.records.values() if record.scores]
    return sorted(scored, key=lambda record: (-record.score, record.parameters))
