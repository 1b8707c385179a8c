"""The MLflow runs of a study, written in batches by a thread of their own: training never waits for the store.

While the store does not answer, events are kept in an `OfflineQueue` beside the study and sent when it answers again;
`ser tracking sync` sends the events of a study that has ended.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import psutil
from mlflow.exceptions import MlflowException

from ser_platform.errors import WorkFailed
from ser_platform.settings import Settings
from ser_platform.tracking.event_writer import (
    EPOCH_METRICS,
    STATUS,
    STUDY_END,
    SYSTEM_METRICS,
    TRIAL_END,
    TRIAL_EPOCH,
    TRIAL_START,
    EventWriter,
)
from ser_platform.tracking.offline_queue import Event, EventOwner, OfflineQueue
from ser_platform.tracking.retrying_client import RetryingClient, StoreUnavailable
from ser_platform.tracking.ui_view import make_view_tags
from ser_platform.training.used_settings import is_used

END_METRICS = ("epochs", "train_seconds", "parameters", "forward_ms")
PARETO = "pareto"  # the tag of the trials in the Pareto set of their study
BATCH_PAUSE_S = 1.0  # seconds between two batches
STORE_RETRY_S = 5.0  # seconds until a store that did not answer is tried again
SYSTEM_METRICS_EVERY_S = 10.0  # seconds
MAX_REASON_CHARS = 5000
log = logging.getLogger(__name__)


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
        axes: Sequence[str] | None = (),
    ) -> None:
        """Create the parent run of `study`, or reopen that of an interrupted study.

        The experiment's saved views (`ui_view`) then show the new study.

        Args:
            experiment: its id.
            trial_tags: returns the tags of a trial with these settings.
            folder: the study's, for its `OfflineQueue`; without one, events that cannot be sent stay in memory.
            axes: names of the settings that the study searches; None, for a control, leaves the views as they are.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        owner = EventOwner(study, experiment, dict(tags))
        self._client, self._study, self._owner, self._trial_tags = client, study, owner, trial_tags
        self._client_without_retries = client.without_retries()
        self._offline_queue = None if folder is None else OfflineQueue(folder)
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._batch: list[Event] = []  # taken from the queue since the last batch was sent
        self._crash: Exception | None = None
        self._unavailable_at = -math.inf  # when the store last did not answer, on the monotonic clock
        self._is_uncertain = False  # whether the last request may have been executed without a reply
        self._writer = EventWriter(owner)
        found = self._writer.open_parent(client)
        if not found and axes is not None:
            for tag, value in make_view_tags(study, tags.get("role", ""), axes).items():
                client.set_experiment_tag(experiment, tag, value)
        self.parent_id, self.run_ids = self._writer.parent_id, self._writer.run_ids
        if self.unsent_file is not None:
            self._send_unsent(client)
            found = self._writer.find_runs(client)
        trials = {int(run.data.tags["trial"]): run for run in found if "trial" in run.data.tags}
        states = {number: run.data.tags.get("state", "") for number, run in trials.items()}
        self._whole_trials = {n for n, run in trials.items() if STATUS.get(states[n]) == run.info.status}
        self._complete_trials = {number for number in self._whole_trials if states[number] == "complete"}
        self._pareto = {number for number, run in trials.items() if PARETO in run.data.tags}
        self._thread = threading.Thread(target=self._write_all, name="mlflow-writer", daemon=True)
        self._thread.start()

    @property
    def unsent_file(self) -> Path | None:
        """The file of the events that are still to be sent; None where there are none."""
        return None if self._offline_queue is None or self._offline_queue.is_empty else self._offline_queue.path

    def is_run_complete(self, number: int) -> bool:
        """Return whether an interrupted study wrote all of a trial that completed."""
        return number in self._complete_trials

    def is_run_whole(self, number: int) -> bool:
        """Return whether an interrupted study wrote all of a trial that completed, was pruned or failed."""
        return number in self._whole_trials

    def find_logged_epochs(self, number: int) -> set[int]:
        """Return the epochs of a trial that an interrupted study wrote."""
        return {step for _, step in self._writer.find_logged_metrics(self._client, number)}

    def start_trial(self, number: int, settings: Settings) -> None:
        """Create the run of a trial; its params are the settings that have an effect in it."""
        known = settings.dotted()
        params = {name: value for name, value in known.items() if is_used(name, known)}
        self._put(TRIAL_START, number, settings=params, tags=dict(self._trial_tags(settings)))

    def log_epoch(self, number: int, result: Mapping[str, float]) -> None:
        """Log the finite metrics of an epoch; a metric that the run already has for this epoch is not logged again."""
        metrics = {name: float(result[name]) for name in EPOCH_METRICS if math.isfinite(result[name])}
        self._put(TRIAL_EPOCH, number, step=int(result["epoch"]), metrics=metrics)

    def end_trial(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None:
        """Close the run of a trial."""
        finals = {name: float(metrics[name]) for name in END_METRICS if name in metrics}
        self._put(TRIAL_END, number, metrics=finals, state=state, reason=reason[:MAX_REASON_CHARS])

    def _put(self, kind: str, number: int, **content: object) -> None:
        self._events.put({"kind": kind, "trial": number, "time": _now_ms(), **content})

    def close(self) -> None:
        """Wait until every event is written to the store or to the offline queue.

        Raises WorkFailed where MLflow rejected a request, or the thread failed; the study's journal has every event.
        """
        if self._thread.is_alive():
            self._events.put(None)
            self._thread.join()
        if self._crash is not None:
            raise WorkFailed(f"MLflow did not get every run of {self._study}: {self._crash!r}") from self._crash
        if (failure := self._writer.failure) is not None:
            raise WorkFailed(f"MLflow did not take every run of {self._study}: {failure.message}")

    def finish_study(
        self,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        status: str = "FINISHED",
        *,
        wait: bool = True,
        ended_ms: int | None = None,
    ) -> None:
        """Log `metrics` and `tags` to the parent run, close it and the runs of interrupted trials; call after `close`.

        Args:
            wait: wait for a store that does not answer; else the events go to the offline queue.
            ended_ms: when the study ended, in milliseconds since 1970; None is now.

        Raises:
            StoreUnavailable: the store does not answer, and `wait` is set or there is no offline queue.
        """
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        time_ms = _now_ms() if ended_ms is None else ended_ms
        self._batch.append(
            {"kind": STUDY_END, "time": time_ms, "metrics": finite, "tags": dict(tags), "status": status}
        )
        try:
            self._send_unsent(self._client if wait else self._client_without_retries)
        except StoreUnavailable:
            self._queue_batch()
            if wait or self._offline_queue is None:
                raise

    def tag_pareto_trials(self, pareto: Collection[int]) -> None:
        """Tag the runs of the trials in the Pareto set, and remove the tag from others; call after `close`."""
        self._send_unsent(self._client)
        for number in sorted(self._pareto - set(pareto)):
            self._client.delete_tag(self.run_ids[number], PARETO)
        for number in sorted(set(pareto) - self._pareto):
            self._client.set_tag(self.run_ids[number], PARETO, "true")
        self._pareto = set(pareto)

    def log_report(self, report: Path) -> None:
        """Log a folder as the artefact `report` of the parent run. Raises WorkFailed where MLflow rejected it."""
        try:
            self._client.log_artifacts(self.parent_id, str(report), "report")
        except MlflowException as error:
            raise WorkFailed(f"MLflow did not take the report of {self._study}: {error.message}") from error

    def _write_all(self) -> None:
        try:
            self._write()
        except Exception as error:  # any error: `close` raises it in the thread of the study
            self._crash = error

    def _write(self) -> None:
        """Take events until the closing None; send a batch after each pause."""
        due, measured = time.monotonic() + BATCH_PAUSE_S, time.monotonic()
        psutil.cpu_percent()  # the next call measures from here
        while True:
            if time.monotonic() - measured >= SYSTEM_METRICS_EVERY_S:
                measured = time.monotonic()
                self._batch.append(_measure_system())
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
        """Send the batch, or put it into the offline queue where the store does not answer."""
        if time.monotonic() - self._unavailable_at < STORE_RETRY_S:
            self._queue_batch()
            return
        try:
            self._send_unsent(self._client_without_retries)
        except StoreUnavailable:
            self._unavailable_at = time.monotonic()
            self._queue_batch()

    def _queue_batch(self) -> None:
        """Move the batch to the offline queue; it stays in memory where the file cannot be written."""
        if self._offline_queue is None or not self._batch:
            return
        try:
            self._offline_queue.append(self._owner, self._batch)
        except WorkFailed as error:
            log.warning("%s", error)
        else:
            self._batch = []

    def _send_unsent(self, client: RetryingClient) -> None:
        """Send the events of the offline queue, then the batch. Raises StoreUnavailable."""
        try:
            if self._is_uncertain or self.unsent_file is not None:
                self._writer.find_runs(client)
            if self._offline_queue is not None and self.unsent_file is not None:
                self._writer.send(client, self._offline_queue.read()[1])
                self._offline_queue.clear()
            self._writer.send(client, self._batch)
        except StoreUnavailable:
            self._is_uncertain = True
            raise
        self._batch, self._is_uncertain = [], False


def send_queued_events(client: RetryingClient, folder: Path) -> int:
    """Send the events in the offline queue of a study that has ended; return their number.

    Raises WorkFailed where the store does not answer, rejects a request, or does not have the study's runs.
    """
    owner, events = OfflineQueue(folder).read()
    if owner is None:
        raise WorkFailed(
            f"{OfflineQueue(folder).path} does not name its study; move it away, and go on with: ser tune --resume"
        )
    if not client.search_runs([owner.experiment], f"tags.study = '{owner.study}'", max_results=1):
        raise WorkFailed("its runs are not in this store; set MLFLOW_TRACKING_URI to the one it was tuned with")
    runs = StudyRuns(client, owner.experiment, owner.study, owner.tags, folder=folder)  # sends the events
    runs.close()
    if not any(event["kind"] == STUDY_END for event in events):  # the study was killed
        last = max((event["time"] for event in events), default=None)
        runs.finish_study({}, {"state": "interrupted"}, "KILLED", ended_ms=last)
    return len(events)


def _measure_system() -> Event:
    """Return CPU and memory use of this machine, under the names that MLflow's pages show as system metrics."""
    memory = psutil.virtual_memory()
    metrics = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
    }
    return {"kind": SYSTEM_METRICS, "time": _now_ms(), "metrics": metrics}


def _now_ms() -> int:
    return int(time.time() * 1000)
