"""Runs of a study: one parent, one child a trial, written by one thread in batches, off the path of training.

While the store is away a study goes on: what happens is kept in its `OfflineQueue`, in order and with its time, and
sent when the store is back; `ser tracking sync` sends what a study has left behind. Nothing is written twice: a run is
looked up by study and trial before it is created again, and MLflow takes a figure of the same time and step once.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from ser_platform.errors import WorkFailed
from ser_platform.settings import Settings
from ser_platform.tracking.offline_queue import Event, EventOwner, OfflineQueue
from ser_platform.tracking.retrying_client import RetryingClient, StoreUnavailable

EPOCH_METRICS = ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar")
END_METRICS = ("epochs", "train_seconds", "parameters", "latency_ms")
PARETO = "pareto"  # the tag of trials that no other trial of their study beats
MAX_BATCH_ENTRIES = 900  # figures and settings; MLflow takes 1000, tags among them
BATCH_PAUSE_S = 1.0  # seconds in which events gather into a batch
STORE_RETRY_S = 5.0  # seconds after which a store that was away is tried again
log = logging.getLogger(__name__)
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
TRIAL_START, TRIAL_EPOCH, TRIAL_END, STUDY_END, SYSTEM_METRICS = "start", "epoch", "end", "finish", "system"
SYSTEM_METRICS_EVERY_S = 10.0  # seconds; the names are those that MLflow's own pages of a run know


@dataclass
class _Pending:
    """What waits to be written of a trial; `start_trial` where its run is still to be created."""

    start: Event | None = None
    metrics: list[Metric] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)
    status: str = ""
    ended: int = 0


class StudyRuns:
    """Writes a study's runs. `start_trial`, `log_epoch` and `end_trial` queue an event and return at once."""

    def __init__(
        self,
        client: RetryingClient,
        experiment: str,
        study: str,
        tags: Mapping[str, str],
        trial_tags: Callable[[Settings], Mapping[str, str]] = lambda settings: {},
        folder: Path | None = None,
    ) -> None:
        """Open the parent run of `study`, or take it up again where an interrupted study left it.

        `folder` is the study's, where events wait for a store that is away; without one they are lost with it.

        Raises:
            StoreDown: the store stays away.
        """
        self._client, self._experiment, self._study = client, experiment, study
        self._client_without_retries = client.without_retries()
        self._owner, self._trial_tags = EventOwner(study, experiment, dict(tags)), trial_tags
        self._offline_queue = None if folder is None else OfflineQueue(folder)
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._batch: list[Event] = []  # taken since the last batch was sent
        self._pending: dict[int, _Pending] = {}
        self._open: set[int] = set()
        self._failure: MlflowException | None = None
        self._crash: Exception | None = None
        self._logged: dict[int, set[tuple[str, int]]] = {}
        self._unavailable_at = -math.inf  # when the store was last found away
        self._is_uncertain = False  # what was sent last may have arrived, though its reply did not
        self.run_ids: dict[int, str] = {}
        found = self._find_runs(client)
        self._remember_run_ids(found)
        parent = self._open_parent(found)
        self.parent_id, self._began = str(parent.info.run_id), int(parent.info.start_time)
        if self.unsent_file is not None:
            self._send_unsent(self._client)
            found = self._find_runs(client)
        trials = {int(run.data.tags["trial"]): run for run in found if "trial" in run.data.tags}
        self._complete_trials = {number for number, run in trials.items() if _is_complete(run)}
        self._whole_trials = {number for number, run in trials.items() if _is_whole(run)}
        self._marked = {number for number, run in trials.items() if PARETO in run.data.tags}
        self._thread = threading.Thread(target=self._write_all, name="mlflow-writer", daemon=True)
        self._thread.start()

    @property
    def unsent_file(self) -> Path | None:
        """The file in which events wait for the store, None where all are sent."""
        return None if self._offline_queue is None or self._offline_queue.is_empty else self._offline_queue.path

    def is_run_complete(self, number: int) -> bool:
        """Tell whether an interrupted study had written all of a trial."""
        return number in self._complete_trials

    def is_run_whole(self, number: int) -> bool:
        """Tell whether the run of a trial that has ended, however it did, holds all of it."""
        return number in self._whole_trials

    def find_logged_epochs(self, number: int) -> set[int]:
        """Return the epochs of a trial that an interrupted study had written: they are not to be written twice."""
        return {step for _, step in self._metrics_of(self._client, number)}

    def start_trial(self, number: int, settings: Settings) -> None:
        """Open the run of a trial."""
        tags, plain = dict(self._trial_tags(settings)), settings.dotted()
        self._events.put({"kind": TRIAL_START, "trial": number, "time": _now_ms(), "settings": plain, "tags": tags})

    def log_epoch(self, number: int, result: Mapping[str, float]) -> None:
        """Log the metrics of an epoch; those that the run holds, from before a kill, are not logged again."""
        metrics = {name: float(result[name]) for name in EPOCH_METRICS if math.isfinite(result[name])}
        step = int(result["epoch"])
        self._events.put({"kind": TRIAL_EPOCH, "trial": number, "time": _now_ms(), "step": step, "metrics": metrics})

    def end_trial(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None:
        """Close the run of a trial."""
        finals = {name: float(metrics[name]) for name in END_METRICS if name in metrics}
        outcome = {"state": state, "reason": reason[:5000]}
        self._events.put({"kind": TRIAL_END, "trial": number, "time": _now_ms(), "metrics": finals, **outcome})

    def close(self) -> None:
        """Wait until everything is written, or kept for when the store is back.

        Raises:
            WorkFailed: the store refused something; the study's journal still holds all.
        """
        if self._thread.is_alive():
            self._events.put(None)
            self._thread.join()
        if self._crash is not None:
            raise WorkFailed(f"MLflow did not get every run of {self._study}: {self._crash!r}") from self._crash
        if self._failure is not None:
            raise WorkFailed(f"MLflow did not take every run of {self._study}: {self._failure.message}")

    def finish_study(
        self,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        status: str = "FINISHED",
        *,
        wait: bool = True,
        ended_ms: int | None = None,
    ) -> None:
        """Write the study's own figures, close the parent run and the runs of trials that were cut off; after `close`.

        `ended_ms` is when it ended, in milliseconds since 1970, where that is not now.

        Raises:
            StoreDown: the store stays away; without `wait` what is left is kept for later instead.
        """
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        event = {
            "kind": STUDY_END,
            "time": _now_ms() if ended_ms is None else ended_ms,
            "metrics": finite,
            "tags": dict(tags),
            "status": status,
        }
        self._batch.append(event)
        try:
            self._send_unsent(self._client if wait else self._client_without_retries)
        except StoreUnavailable:
            self._queue_batch()
            if wait or self._offline_queue is None:
                raise

    def tag_pareto_trials(self, pareto: Collection[int]) -> None:
        """Tag the runs of the trials that no other beats, and no others; after `close`."""
        self._send_unsent(self._client)
        for number in sorted(self._marked - set(pareto)):
            self._client.delete_tag(self.run_ids[number], PARETO)
        for number in sorted(set(pareto) - self._marked):
            self._client.set_tag(self.run_ids[number], PARETO, "true")
        self._marked = set(pareto)

    def log_report(self, report: Path) -> None:
        """Keep a folder as the parent run's artefact `report`.

        Raises:
            WorkFailed: the store did not take it.
        """
        try:
            self._client.log_artifacts(self.parent_id, str(report), "report")
        except MlflowException as error:
            raise WorkFailed(f"MLflow did not take the report of {self._study}: {error.message}") from error

    def _find_runs(self, client: RetryingClient) -> list[Run]:
        """Return the runs of the study that are there; `create_run` would make twins of them."""
        return list(client.search_runs([self._experiment], f"tags.study = '{self._study}'", max_results=50_000))

    def _remember_run_ids(self, found: Iterable[Run]) -> None:
        self.run_ids |= {int(run.data.tags["trial"]): run.info.run_id for run in found if "trial" in run.data.tags}

    def _open_parent(self, found: list[Run]) -> Run:
        for run in found:
            if "trial" not in run.data.tags:
                self._client.update_run(run.info.run_id, "RUNNING")
                return run
        tags = self._owner.tags | {"study": self._study, "state": "running"}
        return self._client.create_run(self._experiment, tags=tags, run_name=self._study)

    def _metrics_of(self, client: RetryingClient, number: int) -> set[tuple[str, int]]:
        """Return what a trial's run holds of its epochs: (metric, epoch)."""
        run_id = self.run_ids.get(number)
        if run_id is None:
            return set()
        histories = (client.get_metric_history(run_id, name) for name in EPOCH_METRICS)
        return {(metric.key, metric.step) for history in histories for metric in history}

    def _write_all(self) -> None:
        try:
            self._write()
        except Exception as error:  # whatever it is, `close` is to tell it: nobody else looks at this thread
            self._crash = error

    def _write(self) -> None:
        """Take events until the closing None; send what has gathered once a pause has passed."""
        due, measured = time.monotonic() + BATCH_PAUSE_S, time.monotonic()
        psutil.cpu_percent()  # since the last time it was asked
        while True:
            if time.monotonic() - measured >= SYSTEM_METRICS_EVERY_S:
                measured = time.monotonic()
                self._batch.append(_system_event())
            try:
                event = self._events.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._flush()
                due = time.monotonic() + BATCH_PAUSE_S
                continue
            if event is None:
                self._unavailable_at = -math.inf
                self._flush()
                return
            self._batch.append(event)

    def _flush(self) -> None:
        """Send what has gathered; keep it where the store is away."""
        if time.monotonic() - self._unavailable_at < STORE_RETRY_S:
            self._queue_batch()
            return
        try:
            self._send_unsent(self._client_without_retries)
        except StoreUnavailable:
            self._unavailable_at = time.monotonic()
            self._queue_batch()

    def _queue_batch(self) -> None:
        """Put what has gathered into the spool; where that cannot be written either, it stays in memory."""
        if self._offline_queue is None or not self._batch:
            return
        try:
            self._offline_queue.append(self._owner, self._batch)
        except WorkFailed as error:
            log.warning("%s", error)
        else:
            self._batch = []

    def _send_unsent(self, client: RetryingClient) -> None:
        """Send what waits in the spool, then what has gathered since.

        Raises:
            StoreDown: the store is away.
        """
        try:
            if self._is_uncertain or self.unsent_file is not None:
                self._remember_run_ids(self._find_runs(client))
            if self._offline_queue is not None and self.unsent_file is not None:
                self._send(client, self._offline_queue.read()[1])
                self._offline_queue.clear()
            self._send(client, self._batch)
        except StoreUnavailable:
            self._is_uncertain = True
            raise
        self._batch, self._is_uncertain = [], False

    def _send(self, client: RetryingClient, events: list[Event]) -> None:
        """Write events, those of a trial together.

        Raises:
            StoreDown: the store is away; any of them may have arrived.
        """
        self._pending = {}
        measured = [event for event in events if event["kind"] == SYSTEM_METRICS]
        if measured:
            self._attempt(lambda: self._log_system(client, measured))
        for event in events:
            if event["kind"] == SYSTEM_METRICS:
                continue
            if event["kind"] == STUDY_END:
                self._send_pending(client)
                self._end_study(client, event)
            elif event["kind"] == TRIAL_START:
                self._send_trial(client, event["trial"])  # of a trial that is run again
                self._begin(client, event)
            elif event.get("metrics") is not None and "trial" in event:
                self._gather(event)
        self._send_pending(client)

    def _gather(self, event: Event) -> None:
        pending, now = self._pending.setdefault(event["trial"], _Pending()), event["time"]
        known, step = self._logged.get(event["trial"], ()), event.get("step", 0)
        metrics = [Metric(name, value, now, step) for name, value in event["metrics"].items()]
        pending.metrics += [
            metric for metric in metrics if event["kind"] == TRIAL_END or (metric.key, step) not in known
        ]
        if event["kind"] == TRIAL_END:
            pending.tags.append(RunTag("state", event["state"]))
            pending.tags += [RunTag("reason", event["reason"])] if event["reason"] else []
            pending.status, pending.ended = STATUS[event["state"]], now

    def _begin(self, client: RetryingClient, event: Event) -> None:
        number = event["trial"]
        self._open.add(number)
        if number not in self.run_ids:
            self._pending[number] = _Pending(event)
            return
        self._attempt(lambda: self._resume_run(client, event))

    def _resume_run(self, client: RetryingClient, event: Event) -> None:
        """Go on with a run that is there; a kill may have come before its settings."""
        run_id = self.run_ids[event["trial"]]
        client.update_run(run_id, "RUNNING")
        client.log_batch(run_id, params=_params(event["settings"]))
        self._logged[event["trial"]] = self._metrics_of(client, event["trial"])

    def _send_pending(self, client: RetryingClient) -> None:
        for number in list(self._pending):
            self._send_trial(client, number)

    def _send_trial(self, client: RetryingClient, number: int) -> None:
        if (entry := self._pending.pop(number, None)) is not None:
            self._attempt(lambda: self._log(client, number, entry))

    def _log(self, client: RetryingClient, number: int, entry: _Pending) -> None:
        params = [] if entry.start is None else _params(entry.start["settings"])
        if entry.start is not None:
            self._create(client, number, entry.start, entry)
        if number not in self.run_ids:
            return  # which the store refused, as `close` tells
        run_id, size = self.run_ids[number], MAX_BATCH_ENTRIES - len(params)
        for first in range(0, max(len(entry.metrics), 1), size):
            metrics = entry.metrics[first : first + size]
            client.log_batch(run_id, metrics=metrics, tags=entry.tags, params=params)
            params = []
        if entry.status:
            client.set_terminated(run_id, entry.status, entry.ended)
            self._open.discard(number)

    def _create(self, client: RetryingClient, number: int, start: Event, entry: _Pending) -> None:
        """Create the run of a trial, with the tags that wait: each call is a transaction of its own."""
        tags = self._owner.tags | start["tags"]
        tags |= {"study": self._study, "trial": str(number), "state": "running", "mlflow.parentRunId": self.parent_id}
        tags |= {tag.key: tag.value for tag in entry.tags}
        name = f"trial {number}, {start['settings']['model.name']}"  # the study is a tag, and the parent
        run = client.create_run(self._experiment, start_time=start["time"], tags=tags, run_name=name)
        self.run_ids[number] = run.info.run_id
        entry.tags = []

    def _log_system(self, client: RetryingClient, events: Iterable[Event]) -> None:
        """Log how busy the machine was to the parent run; a step is a second of the study, resumed or not."""
        metrics = [
            Metric(name, value, event["time"], (event["time"] - self._began) // 1000)
            for event in events
            for name, value in event["metrics"].items()
        ]
        for first in range(0, len(metrics), MAX_BATCH_ENTRIES):
            client.log_batch(self.parent_id, metrics[first : first + MAX_BATCH_ENTRIES])

    def _end_study(self, client: RetryingClient, event: Event) -> None:
        for number in sorted(self._open & self.run_ids.keys()):
            client.set_tag(self.run_ids[number], "state", "interrupted")
            client.set_terminated(self.run_ids[number], "KILLED", event["time"])
        metrics = [Metric(name, value, event["time"], 0) for name, value in event["metrics"].items()]
        client.log_batch(self.parent_id, metrics, tags=[RunTag(name, value) for name, value in event["tags"].items()])
        client.set_terminated(self.parent_id, event["status"], event["time"])

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do some of the work; what the store refuses is remembered, and the rest goes on."""
        try:
            work()
        except MlflowException as error:
            self._failure = self._failure or error


def send_queued_events(client: RetryingClient, folder: Path) -> int:
    """Send what waits of a study that does not run; return how many events that were.

    Raises:
        WorkFailed: the store stays away, refuses something, or is not the one that the study's runs are in.
    """
    owner, events = OfflineQueue(folder).read()
    if owner is None:
        raise WorkFailed(
            f"{OfflineQueue(folder).path} does not say whose it is; move it away, and go on with: ser tune --resume"
        )
    found = client.search_runs([owner.experiment], f"tags.study = '{owner.study}'", max_results=1)
    if not found:
        raise WorkFailed("its runs are not in this store; set MLFLOW_TRACKING_URI to the one it was tuned with")
    runs = StudyRuns(client, owner.experiment, owner.study, owner.tags, folder=folder)  # sends
    runs.close()
    if not any(event["kind"] == STUDY_END for event in events):  # killed meanwhile
        last = max((event["time"] for event in events if "time" in event), default=None)
        runs.finish_study({}, {"state": "interrupted"}, "KILLED", ended_ms=last)
    return len(events)


def _is_complete(run: Run) -> bool:
    return bool(run.info.status == "FINISHED" and run.data.tags.get("state") == "complete")


def _is_whole(run: Run) -> bool:
    return bool(run.info.status in STATUS.values() and run.data.tags.get("state") in STATUS)


def _system_event() -> Event:
    """Return how busy the machine is that the study is driven from."""
    memory = psutil.virtual_memory()
    metrics = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
    }
    return {"kind": SYSTEM_METRICS, "time": _now_ms(), "metrics": metrics}


def _params(settings: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in settings.items()]


def _now_ms() -> int:
    return int(time.time() * 1000)
