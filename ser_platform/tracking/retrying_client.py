"""An MLflow client that waits during outages of its store: it repeats a call until it succeeds, and does it once.

MLflow's own retries repeat any request without a reply, so a run can be created twice; here they are off. Idempotent
calls are repeated. A call that creates something first searches for the result of an earlier attempt.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ser_platform.errors import WorkFailed

MAX_WAIT_S = 300.0  # seconds for which a call is repeated
FIRST_RETRY_PAUSE_S, MAX_RETRY_PAUSE_S = 0.2, 5.0  # seconds between two attempts
TRANSIENT_ERRORS = frozenset(
    ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "ABORTED")
)
IDEMPOTENT_PREFIXES = ("delete_", "download_", "get_", "list_", "log_", "search_", "set_", "update_")
NOT_IDEMPOTENT = ("log_image", "log_metric", "log_stream", "log_table")  # a second call adds a value, a row or a file
ALREADY_EXISTS, DOES_NOT_EXIST = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
T = TypeVar("T")
log = logging.getLogger(__name__)


class StoreUnavailable(WorkFailed):
    """The store does not answer, or answers with a server error."""


def is_outage(error: Exception) -> bool:
    """Return whether an error is temporary: no answer, overload or a server error, not an invalid request."""
    if isinstance(error, requests.RequestException):
        return error.response is None or error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, MlflowException) and error.error_code in TRANSIENT_ERRORS


class RetryingClient(MlflowClient):
    """An MLflow client that repeats each call for up to `max_wait_s` seconds; 0 is one attempt.

    Every call raises `StoreUnavailable` where the store still does not answer then. Other errors of MLflow are raised
    at once.
    """

    def __init__(self, uri: str, max_wait_s: float = MAX_WAIT_S) -> None:
        super().__init__(tracking_uri=uri, registry_uri=uri)
        self.uri, self.max_wait_s = uri, max_wait_s

    def without_retries(self) -> "RetryingClient":
        """Return a client of the same store that makes one attempt."""
        return RetryingClient(self.uri, 0.0)

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Run:
        """Create a run unless an earlier attempt of this call did; its tags `study` and `trial` identify it."""

        def attempt(is_first: bool) -> Run:
            found = None if is_first else self._find_run(experiment_id, tags or {})
            return found or MlflowClient.create_run(self, experiment_id, start_time, tags, run_name)

        return self._retry("create_run", attempt)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: dict[str, Any] | None = None
    ) -> str:
        """Create an experiment; return its id, or that of an existing one."""

        def find() -> str:
            there = MlflowClient.get_experiment_by_name(self, name)
            assert there is not None, "the store has just answered that it exists"
            return str(there.experiment_id)

        def create() -> str:
            return str(MlflowClient.create_experiment(self, name, artifact_location, tags))

        return self._retry_unless("create_experiment", create, ALREADY_EXISTS, find)

    def create_registered_model(
        self,
        name: str,
        tags: dict[str, Any] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> RegisteredModel:
        """Create a registered model, or return the existing one."""

        def create() -> RegisteredModel:
            return MlflowClient.create_registered_model(self, name, tags, description, deployment_job_id)

        def find() -> RegisteredModel:
            return MlflowClient.get_registered_model(self, name)

        return self._retry_unless("create_registered_model", create, ALREADY_EXISTS, find)

    def claim(self, name: str, owner: str, tags: dict[str, Any]) -> bool:
        """Create a registered model for `owner`; return False where another owner created it before.

        Names are unique in a store, so this is a lock that every backend has.
        """
        model = self.create_registered_model(name, {**tags, "owner": owner})
        return bool(model.tags.get("owner") == owner)

    def delete_registered_model(self, name: str) -> None:
        """Delete a registered model; a missing one is no error."""

        def delete() -> None:
            MlflowClient.delete_registered_model(self, name)

        self._retry_unless("delete_registered_model", delete, DOES_NOT_EXIST, lambda: None)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, *args: Any, **more: Any
    ) -> ModelVersion:
        """Create a version unless an earlier attempt did, identified by run and last part of the source."""

        def attempt(is_first: bool) -> ModelVersion:
            if not is_first:
                query = f"name = '{name}' and run_id = '{run_id}'"
                for version in MlflowClient.search_model_versions(self, query):
                    if _extract_artifact_name(str(version.source)) == _extract_artifact_name(source):
                        return version
            return MlflowClient.create_model_version(self, name, source, run_id, *args, **more)

        return self._retry("create_model_version", attempt)

    def _find_run(self, experiment_id: str, tags: dict[str, Any]) -> Run | None:
        """Return the run with the study and trial in `tags`, or the parent run where there is no trial in them."""
        query = f"tags.study = '{tags['study']}'"
        if "trial" in tags:
            query += f" and tags.trial = '{tags['trial']}'"
        found = MlflowClient.search_runs(self, [experiment_id], query)
        return next((run for run in found if run.data.tags.get("trial") == tags.get("trial")), None)

    def _retry_unless(self, operation: str, work: Callable[[], T], code: str, otherwise: Callable[[], T]) -> T:
        """Call `work` with retries; where the store rejects it with the error `code`, return `otherwise()`."""

        def attempt(is_first: bool) -> T:
            try:
                return work()
            except MlflowException as error:
                if error.error_code != code:
                    raise
                return otherwise()

        return self._retry(operation, attempt)

    def _retry(self, operation: str, attempt: Callable[[bool], T]) -> T:
        """Call `attempt(is_first)` until it ends without an outage, for at most `max_wait_s` seconds."""
        deadline, pause, is_first = time.monotonic() + self.max_wait_s, FIRST_RETRY_PAUSE_S, True
        while True:
            try:
                return attempt(is_first)
            except (MlflowException, requests.RequestException) as error:
                if not is_outage(error):
                    raise
                if time.monotonic() + pause > deadline:
                    message = str(getattr(error, "message", error))[:150]
                    raise StoreUnavailable(f"the MLflow store does not answer ({operation}): {message}") from error
            if is_first:
                log.warning(
                    "the MLflow store does not answer; retrying for up to %.0f s; nothing is lost", self.max_wait_s
                )
            time.sleep(pause)
            pause, is_first = min(2 * pause, MAX_RETRY_PAUSE_S), False


def _make_retrying(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(MlflowClient, name))
    def call(self: RetryingClient, *args: Any, **more: Any) -> Any:
        return self._retry(name, lambda is_first: getattr(MlflowClient, name)(self, *args, **more))

    return call


for _name in vars(MlflowClient):
    if _name.startswith(IDEMPOTENT_PREFIXES) and _name not in (*NOT_IDEMPOTENT, *vars(RetryingClient)):
        setattr(RetryingClient, _name, _make_retrying(_name))


def _extract_artifact_name(source: str) -> str:
    """Return the part of a source that is equal in its forms `runs:/ID/path` and as a URI of artefacts."""
    return source.rstrip("/").rpartition("/")[2]
