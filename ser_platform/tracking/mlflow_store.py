"""Access to the MLflow store: `MLFLOW_TRACKING_URI`, else SQLite and a folder of artefacts in the working directory."""

import logging
import os
from pathlib import Path

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ser_platform.errors import UserError, WorkFailed
from ser_platform.tracking.retrying_client import RetryingClient, StoreUnavailable
from ser_platform.tracking.store_creation import SQLITE_SCHEME, ensure_store, find_sqlite_file
from ser_platform.tracking.ui_view import EXPERIMENT_TAGS

Client = RetryingClient
DATABASE, ARTEFACTS = "mlflow.db", "mlruns"  # MLflow's own defaults, so that a plain `mlflow ui` here finds them


def find_tracking_uri() -> str:
    """Return the URI of the store; it is absolute, because Ray changes the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE_SCHEME}{Path.cwd() / DATABASE}"


def open_client() -> RetryingClient:
    """Return a client of the store; create the store in the working directory where it is missing.

    Raises WorkFailed where the store does not answer, and UserError where the working directory cannot be written, or
    the store is damaged.
    """
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # it would silently override the name of the experiment
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bundle is a few hundred kilobytes
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # they are not idempotent, see `retrying_client`
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run
    uri = find_tracking_uri()
    if "MLFLOW_TRACKING_URI" not in os.environ and not os.access(Path.cwd(), os.W_OK):
        raise UserError(
            f"{Path.cwd()} cannot be written, where runs are stored; change the directory or set MLFLOW_TRACKING_URI"
        )
    database = find_sqlite_file(uri)
    if database is not None:
        ensure_store(database)
    # The pyfunc flavour and model downloads read the URI from the environment, not from the client.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        client = RetryingClient(uri)
        client.without_retries().search_experiments(max_results=1)  # a wrong address fails at once
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"the MLflow store {_remove_credentials(uri)} has runs or models and is damaged ({reason}): "
            "restore it from a backup, or move it away to start a new one"
        ) from error
    except (MlflowException, StoreUnavailable) as error:
        message = str(getattr(error.__cause__ or error, "message", error))[:150]
        raise WorkFailed(f"the MLflow store {_remove_credentials(uri)} does not answer: {message}") from error
    return client


def find_or_create_experiment(client: RetryingClient, name: str) -> str:
    """Return the id of the experiment called `name`; create it where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        for tag, value in EXPERIMENT_TAGS.items():
            if found.tags.get(tag) != value:
                client.set_experiment_tag(found.experiment_id, tag, value)
        return str(found.experiment_id)
    location = (Path.cwd() / ARTEFACTS / name).as_uri() if client.uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=location, tags=dict(EXPERIMENT_TAGS)))


def _remove_credentials(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
