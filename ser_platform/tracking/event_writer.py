"""Writes the events of a study to its MLflow runs: one parent run, and one child run per trial.

Writing an event twice changes nothing: a run is searched by study and trial before it is created, and MLflow stores a
metric with the same time and step once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from ser_platform.tracking.offline_queue import Event, EventOwner
from ser_platform.tracking.retrying_client import RetryingClient

EPOCH_METRICS = ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1", "best_dev_uar")
TRIAL_START, TRIAL_EPOCH, TRIAL_END, STUDY_END, SYSTEM_METRICS = "start", "epoch", "end", "finish", "system"
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}  # MLflow's, by the state of a trial
MAX_BATCH_ENTRIES = 900  # metrics and params in a request; MLflow accepts 1000, tags included


@dataclass
class _PendingTrial:
    """Entries of one trial for the next request; `start` is set where its run has to be created first."""

    start: Event | None = None
    metrics: list[Metric] = field(default_factory=list)
    tags: list[RunTag] = field(default_factory=list)
    status: str = ""
    ended_ms: int = 0


class EventWriter:
    """Writes events to the runs of one study.

    Attributes:
        run_ids: the runs of trials, by trial number.
        parent_id: the parent run; set by `open_parent`.
        failure: the first request that MLflow rejected; events after it are still written.
    """

    parent_id: str

    def __init__(self, owner: EventOwner) -> None:
        self.run_ids: dict[int, str] = {}
        self.failure: MlflowException | None = None
        self._owner = owner
        self._pending: dict[int, _PendingTrial] = {}
        self._open: set[int] = set()
        self._logged: dict[int, set[tuple[str, int]]] = {}

    def open_parent(self, client: RetryingClient) -> list[Run]:
        """Create the parent run, or reopen it where it exists; return the runs of the study that existed before."""
        found = self.find_runs(client)
        parent = next((run for run in found if "trial" not in run.data.tags), None)
        if parent is not None:
            client.update_run(parent.info.run_id, "RUNNING")
        else:
            tags = self._owner.tags | {"study": self._owner.study, "state": "running"}
            parent = client.create_run(self._owner.experiment, tags=tags, run_name=self._owner.study)
        self.parent_id, self._began_ms = str(parent.info.run_id), int(parent.info.start_time)
        return found

    def find_runs(self, client: RetryingClient) -> list[Run]:
        """Return the runs of the study in the store; those of trials are added to `run_ids`."""
        query = f"tags.study = '{self._owner.study}'"
        found = list(client.search_runs([self._owner.experiment], query, max_results=50_000))
        self.run_ids |= {int(run.data.tags["trial"]): run.info.run_id for run in found if "trial" in run.data.tags}
        return found

    def find_logged_metrics(self, client: RetryingClient, number: int) -> set[tuple[str, int]]:
        """Return `(metric, epoch)` of each epoch metric in the run of a trial."""
        run_id = self.run_ids.get(number)
        if run_id is None:
            return set()
        histories = (client.get_metric_history(run_id, name) for name in EPOCH_METRICS)
        return {(metric.key, metric.step) for history in histories for metric in history}

    def send(self, client: RetryingClient, events: Iterable[Event]) -> None:
        """Write events, those of a trial in one request; after StoreUnavailable any of them may have been written."""
        self._pending = {}
        events = list(events)
        if measured := [event for event in events if event["kind"] == SYSTEM_METRICS]:
            self._attempt(lambda: self._log_system(client, measured))
        for event in events:
            if event["kind"] == STUDY_END:
                self._send_pending(client)
                self._end_study(client, event)
            elif event["kind"] == TRIAL_START:
                self._send_trial(client, event["trial"])  # an earlier attempt of the same trial
                self._start_trial(client, event)
            elif event.get("metrics") is not None and "trial" in event:
                self._gather(event)
        self._send_pending(client)

    def _start_trial(self, client: RetryingClient, event: Event) -> None:
        number = event["trial"]
        self._open.add(number)
        if number in self.run_ids:
            self._attempt(lambda: self._resume_run(client, event))
        else:
            self._pending[number] = _PendingTrial(event)

    def _resume_run(self, client: RetryingClient, event: Event) -> None:
        run_id = self.run_ids[event["trial"]]
        client.update_run(run_id, "RUNNING")
        client.log_batch(run_id, params=_make_params(event["settings"]))  # a kill may have come before them
        self._logged[event["trial"]] = self.find_logged_metrics(client, event["trial"])

    def _gather(self, event: Event) -> None:
        pending, step = self._pending.setdefault(event["trial"], _PendingTrial()), event.get("step", 0)
        known = () if event["kind"] == TRIAL_END else self._logged.get(event["trial"], ())
        pending.metrics += [metric for metric in _make_metrics(event, step) if (metric.key, step) not in known]
        if event["kind"] == TRIAL_END:
            pending.tags += [RunTag(name, event[name]) for name in ("state", "reason") if event[name]]
            pending.status, pending.ended_ms = STATUS[event["state"]], event["time"]

    def _send_pending(self, client: RetryingClient) -> None:
        for number in list(self._pending):
            self._send_trial(client, number)

    def _send_trial(self, client: RetryingClient, number: int) -> None:
        if (pending := self._pending.pop(number, None)) is not None:
            self._attempt(lambda: self._log_trial(client, number, pending))

    def _log_trial(self, client: RetryingClient, number: int, pending: _PendingTrial) -> None:
        params = [] if pending.start is None else _make_params(pending.start["settings"])
        if pending.start is not None:
            self._create_run(client, number, pending.start, pending)
        if number not in self.run_ids:
            return  # MLflow rejected the run; `failure` is set
        run_id, size = self.run_ids[number], MAX_BATCH_ENTRIES - len(params)
        for first in range(0, max(len(pending.metrics), 1), size):
            client.log_batch(run_id, pending.metrics[first : first + size], params, pending.tags)
            params = []
        if pending.status:
            client.set_terminated(run_id, pending.status, pending.ended_ms)
            self._open.discard(number)

    def _create_run(self, client: RetryingClient, number: int, start: Event, pending: _PendingTrial) -> None:
        """Create the run of a trial with its pending tags: each further request is a transaction of its own."""
        tags = self._owner.tags | start["tags"]
        tags |= {"study": self._owner.study, "trial": str(number), "state": "running"}
        tags |= {"mlflow.parentRunId": self.parent_id} | {tag.key: tag.value for tag in pending.tags}
        name = f"trial {number}, {start['settings']['model.name']}"
        run = client.create_run(self._owner.experiment, start_time=start["time"], tags=tags, run_name=name)
        self.run_ids[number] = run.info.run_id
        pending.tags = []

    def _log_system(self, client: RetryingClient, events: Iterable[Event]) -> None:
        """Log system metrics to the parent run; the step is in seconds since the study began, resumed or not."""
        metrics = [m for event in events for m in _make_metrics(event, (event["time"] - self._began_ms) // 1000)]
        for first in range(0, len(metrics), MAX_BATCH_ENTRIES):
            client.log_batch(self.parent_id, metrics[first : first + MAX_BATCH_ENTRIES])

    def _end_study(self, client: RetryingClient, event: Event) -> None:
        for number in sorted(self._open & self.run_ids.keys()):
            client.set_tag(self.run_ids[number], "state", "interrupted")
            client.set_terminated(self.run_ids[number], "KILLED", event["time"])
        tags = [RunTag(name, value) for name, value in event["tags"].items()]
        client.log_batch(self.parent_id, _make_metrics(event), tags=tags)
        client.set_terminated(self.parent_id, event["status"], event["time"])

    def _attempt(self, work: Callable[[], None]) -> None:
        """Run `work`; keep the first error with which MLflow rejects a request, so that later events are written."""
        try:
            work()
        except MlflowException as error:
            self.failure = self.failure or error


def _make_metrics(event: Event, step: int = 0) -> list[Metric]:
    return [Metric(name, value, event["time"], step) for name, value in event["metrics"].items()]


def _make_params(settings: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in settings.items()]
