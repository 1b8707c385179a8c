"""Runs of a study: one parent, one child a trial, written by one thread in batches, off the path of training."""

import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from ser_platform.errors import WorkFailed
from ser_platform.settings import Settings, as_json

EPOCH_METRICS = ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar")
END_METRICS = ("epochs", "train_seconds", "parameters")
PARETO = "pareto"  # the tag of trials that no other trial of their study beats
LARGEST_BATCH = 900  # figures and settings; MLflow takes 1000, tags among them
PAUSE = 1.0  # seconds in which events gather into a batch
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


@dataclass
class _Pending:
    """What waits to be written of a trial; `settings` and when it began where its run is still to be created."""

    settings: Settings | None = None
    began: int = 0
    metrics: list[Metric] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)
    status: str = ""
    ended: int = 0


class StudyRuns:
    """Writes a study's runs. `start`, `epoch` and `end` only put an event into a queue and return at once."""

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        study: str,
        tags: Mapping[str, str],
        trial_tags: Callable[[Settings], Mapping[str, str]] = lambda settings: {},
    ) -> None:
        """Open the parent run of `study`, or take it up again where an interrupted study left it."""
        self._client, self._experiment, self._study, self._tags = client, experiment, study, dict(tags)
        self._trial_tags = trial_tags
        self._events: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._pending: dict[int, _Pending] = {}
        self._open: set[int] = set()
        self._failure: MlflowException | None = None
        found = self._found()
        self.run_ids = {int(run.data.tags["trial"]): run.info.run_id for run in found if "trial" in run.data.tags}
        self._ended = {int(run.data.tags["trial"]) for run in found if "trial" in run.data.tags and _is_complete(run)}
        self._whole = {int(run.data.tags["trial"]) for run in found if "trial" in run.data.tags and _is_whole(run)}
        self._marked = {int(run.data.tags["trial"]) for run in found if "trial" in run.data.tags and _is_marked(run)}
        self._logged: dict[int, set[tuple[str, int]]] = {}
        self.parent_id = self._open_parent(found)
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def _found(self) -> list[Run]:
        """Return the runs that an interrupted study left; `create_run` would make twins of them."""
        return list(self._client.search_runs([self._experiment], f"tags.study = '{self._study}'", max_results=50_000))

    def _open_parent(self, found: list[Run]) -> str:
        for run in found:
            if "trial" not in run.data.tags:
                self._client.update_run(run.info.run_id, "RUNNING")
                return str(run.info.run_id)
        tags = self._tags | {"study": self._study, "state": "running"}
        return str(self._client.create_run(self._experiment, tags=tags, run_name=self._study).info.run_id)

    def has_ended(self, number: int) -> bool:
        """Tell whether an interrupted study had written all of a trial."""
        return number in self._ended

    def has_all(self, number: int) -> bool:
        """Tell whether the run of a trial that has ended, however it did, holds all of it."""
        return number in self._whole

    def logged_epochs(self, number: int) -> set[int]:
        """Return the epochs of a trial that an interrupted study had written: they are not to be written twice."""
        return {step for _, step in self._metrics_of(number)}

    def _metrics_of(self, number: int) -> set[tuple[str, int]]:
        """Return what a trial's run holds of its epochs: (metric, epoch)."""
        run_id = self.run_ids.get(number)
        if run_id is None:
            return set()
        histories = (self._client.get_metric_history(run_id, name) for name in EPOCH_METRICS)
        return {(metric.key, metric.step) for history in histories for metric in history}

    def start(self, number: int, settings: Settings) -> None:
        """Open the run of a trial."""
        began = _now()
        self._events.put(lambda: self._begin(number, settings, began))

    def epoch(self, number: int, result: Mapping[str, float]) -> None:
        """Log the metrics of an epoch; those that the run holds, from before a kill, are not logged again."""
        now, step = _now(), int(result["epoch"])
        metrics = [Metric(name, result[name], now, step) for name in EPOCH_METRICS if math.isfinite(result[name])]

        def write() -> None:
            known = self._logged.get(number, ())
            self._of(number).metrics.extend(metric for metric in metrics if (metric.key, metric.step) not in known)

        self._events.put(write)

    def end(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None:
        """Close the run of a trial."""
        now = _now()
        finals = [Metric(name, float(metrics[name]), now, 0) for name in END_METRICS if name in metrics]
        tags = [RunTag("state", state)] + ([RunTag("reason", reason[:5000])] if reason else [])

        def write() -> None:
            pending = self._of(number)
            pending.metrics += finals
            pending.tags += tags
            pending.status, pending.ended = STATUS[state], now

        self._events.put(write)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            WorkFailed: the store refused something; the study's journal still holds all.
        """
        self._events.put(None)
        self._thread.join()
        if self._failure is not None:
            raise WorkFailed(f"MLflow did not take every run of {self._study}: {self._failure.message}")

    def finish(self, metrics: Mapping[str, float], tags: Mapping[str, str], status: str = "FINISHED") -> None:
        """Write the study's own figures, close the parent run and the runs of trials that were cut off."""
        now = _now()
        for number in sorted(self._open & self.run_ids.keys()):
            self._client.set_tag(self.run_ids[number], "state", "interrupted")
            self._client.set_terminated(self.run_ids[number], "KILLED")
        self._client.log_batch(
            self.parent_id,
            metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items() if math.isfinite(value)],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._client.set_terminated(self.parent_id, status)

    def mark(self, pareto: Collection[int]) -> None:
        """Tag the runs of the trials that no other beats, and no others; after `close`."""
        for number in sorted(self._marked - set(pareto)):
            self._client.delete_tag(self.run_ids[number], PARETO)
        for number in sorted(set(pareto) - self._marked):
            self._client.set_tag(self.run_ids[number], PARETO, "true")
        self._marked = set(pareto)

    def keep(self, report: Path) -> None:
        """Keep a folder as the parent run's artefact `report`.

        Raises:
            WorkFailed: the store did not take it.
        """
        try:
            self._client.log_artifacts(self.parent_id, str(report), "report")
        except MlflowException as error:
            raise WorkFailed(f"MLflow did not take the report of {self._study}: {error.message}") from error

    def _of(self, number: int) -> _Pending:
        return self._pending.setdefault(number, _Pending())

    def _begin(self, number: int, settings: Settings, began: int) -> None:
        self._open.add(number)
        self._flush_of(number)  # of a trial that is run again in this process
        if number not in self.run_ids:
            self._pending[number] = _Pending(settings, began)
            return
        self._client.update_run(self.run_ids[number], "RUNNING")
        self._client.log_batch(self.run_ids[number], params=_params(settings))  # a kill may have come before them
        self._logged[number] = self._metrics_of(number)

    def _create(self, number: int, entry: _Pending) -> None:
        """Create the run of a trial, with the tags that wait: each call is a transaction of its own."""
        assert entry.settings is not None
        tags = self._tags | dict(self._trial_tags(entry.settings))
        tags |= {"study": self._study, "trial": str(number), "state": "running", "mlflow.parentRunId": self.parent_id}
        tags |= {tag.key: tag.value for tag in entry.tags}
        name = f"trial {number}, {entry.settings['model.name']}"  # the study is a tag, and the parent
        run = self._client.create_run(self._experiment, start_time=entry.began, tags=tags, run_name=name)
        self.run_ids[number] = run.info.run_id
        entry.tags = []

    def _write(self) -> None:
        """Take events until the closing None; send what has gathered once a pause has passed."""
        due = time.monotonic() + PAUSE
        while True:
            try:
                event = self._events.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._flush()
                due = time.monotonic() + PAUSE
                continue
            if event is None:
                self._flush()
                return
            self._attempt(event)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MlflowException as error:
            self._failure = self._failure or error

    def _flush(self) -> None:
        for number in list(self._pending):
            self._flush_of(number)

    def _flush_of(self, number: int) -> None:
        if (entry := self._pending.pop(number, None)) is not None:
            self._attempt(lambda: self._send(number, entry))

    def _send(self, number: int, entry: _Pending) -> None:
        params = [] if entry.settings is None else _params(entry.settings)
        if entry.settings is not None:
            self._create(number, entry)
        if number not in self.run_ids:
            return  # which the store refused, as `close` tells
        run_id, size = self.run_ids[number], LARGEST_BATCH - len(params)
        for first in range(0, max(len(entry.metrics), 1), size):
            metrics = entry.metrics[first : first + size]
            self._client.log_batch(run_id, metrics=metrics, tags=entry.tags, params=params)
            params = []
        if entry.status:
            self._client.set_terminated(run_id, entry.status, entry.ended)
            self._open.discard(number)


def _is_complete(run: Run) -> bool:
    return bool(run.info.status == "FINISHED" and run.data.tags.get("state") == "complete")


def _is_whole(run: Run) -> bool:
    return bool(run.info.status in STATUS.values() and run.data.tags.get("state") in STATUS)


def _is_marked(run: Run) -> bool:
    return PARETO in run.data.tags


def _params(settings: Settings) -> list[Param]:
    return [Param(name, str(value)) for name, value in as_json(settings).items()]


def _now() -> int:
    return int(time.time() * 1000)
