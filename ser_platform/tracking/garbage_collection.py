"""Artefacts of runs: their size, and removal of old ones. Artefacts of a registered version are never removed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ser_platform.errors import WorkFailed
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import list_model_names

DAY_S = 86_400  # seconds
PAGE_RUNS = 1000  # runs


@dataclass(frozen=True)
class RunFiles:
    """The artefacts of one run, at the URI `place`; they are kept where `versions` lists registered versions of it."""

    run_id: str
    name: str
    ended_at: float
    size_bytes: int
    versions: tuple[str, ...]
    place: str


def list_run_files(client: Client) -> list[RunFiles]:
    """Return the artefacts of every run that has any, largest first; `ended_at` is in seconds since 1970."""
    versions: dict[str, list[str]] = {}
    for name in list_model_names(client):
        for version in client.search_model_versions(f"name = '{name}'"):
            versions.setdefault(str(version.run_id), []).append(f"{name} v{version.version}")
    found = [_measure_run_files(client, run, tuple(versions.get(run.info.run_id, ()))) for run in _find_runs(client)]
    return sorted((each for each in found if each.size_bytes), key=lambda each: -each.size_bytes)


def select_old(found: list[RunFiles], days: float) -> list[RunFiles]:
    """Return those of runs that ended more than `days` days ago and have no registered version."""
    before = time.time() - days * DAY_S
    return [each for each in found if not each.versions and each.ended_at < before]


def remove_files(found: list[RunFiles]) -> int:
    """Remove the artefacts of these runs; return the bytes removed. Raises WorkFailed where the store fails to."""
    done = 0
    for each in found:
        assert not each.versions, "artefacts of a registered version are never removed"
        try:
            get_artifact_repository(each.place).delete_artifacts()
        except (MlflowException, OSError, NotImplementedError) as error:
            raise WorkFailed(
                f"the files of {each.name} cannot be removed: {error}; {done / 1e6:.1f} MB of others were removed"
            ) from error
        done += each.size_bytes
    return done


def _find_runs(client: Client) -> Iterator[Run]:
    """Yield the parent runs of all studies and trainings; runs of trials have no artefacts."""
    experiments = [each.experiment_id for each in client.search_experiments() if each.name.startswith("ser-")]
    token = None
    while experiments:
        page = client.search_runs(experiments, "tags.study != ''", max_results=PAGE_RUNS, page_token=token)
        yield from (run for run in page if "trial" not in run.data.tags)
        token = page.token
        if not token:
            return


def _measure_run_files(client: Client, run: Run, versions: tuple[str, ...]) -> RunFiles:
    running = run.info.end_time is None
    ended_at = time.time() if running else run.info.end_time / 1000
    size = _measure_size(client, run.info.run_id)
    return RunFiles(run.info.run_id, str(run.info.run_name), ended_at, size, versions, str(run.info.artifact_uri))


def _measure_size(client: Client, run_id: str, path: str | None = None) -> int:
    """Return the size of the artefacts of a run under `path`, in bytes."""
    listed = client.list_artifacts(run_id, path)
    return sum(_measure_size(client, run_id, each.path) if each.is_dir else each.file_size or 0 for each in listed)
