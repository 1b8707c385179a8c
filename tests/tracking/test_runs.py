"""Runs of a study in MLflow."""

import json
from collections.abc import Iterator

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from ser_platform.errors import WorkFailed
from ser_platform.settings import resolve
from ser_platform.tracking.event_writer import EPOCH_METRICS
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.runs import END_METRICS, StudyRuns
from tests.tuning.study.test_recorder import result

SETTINGS = resolve({"model.name": "bilstm"})
METRICS = {"epochs": 1.0, "train_seconds": 2.0, "parameters": 3.0}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_client()


def open_runs(client: Client) -> StudyRuns:
    return StudyRuns(client, find_or_create_experiment(client, "ser-made"), "made", {"role": "student"})


def find_trial_runs(client: Client) -> list[Run]:
    runs = client.search_runs([find_or_create_experiment(client, "ser-made")], "tags.study = 'made'")
    return sorted((run for run in runs if "trial" in run.data.tags), key=lambda run: int(run.data.tags["trial"]))


def write(runs: StudyRuns, number: int, epochs: int = 1) -> None:
    runs.start_trial(number, SETTINGS)
    for epoch in range(1, epochs + 1):
        runs.log_epoch(number, result(epoch, 0.5))


def test_a_trial_that_begins_and_ends_between_two_batches_is_written_whole(client: Client) -> None:
    runs = open_runs(client)
    write(runs, 0, epochs=2)
    runs.end_trial(0, "failed", METRICS, "a reason")
    runs.close()
    (run,) = find_trial_runs(client)
    assert run.info.status == "FAILED"
    assert run.data.tags["state"] == "failed" and run.data.tags["reason"] == "a reason"
    assert run.data.params["model.name"] == "bilstm" and run.data.params["optimizer.lr"]
    assert "model.ridge" not in run.data.params and "distill.temperature" not in run.data.params  # have no effect
    assert run.data.metrics["parameters"] == 3.0
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "dev_uar")] == [1, 2]


def test_a_trial_that_is_run_again_keeps_its_run_and_logs_no_epoch_twice(client: Client) -> None:
    runs = open_runs(client)
    write(runs, 0, epochs=2)
    write(runs, 0, epochs=3)
    runs.end_trial(0, "complete", METRICS, "")
    runs.close()
    again = open_runs(client)
    write(again, 0, epochs=4)
    again.end_trial(0, "complete", METRICS, "")
    again.close()
    (run,) = find_trial_runs(client)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "dev_uar")] == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"


def test_many_epochs_are_written_in_batches_that_mlflow_accepts(client: Client) -> None:
    runs = open_runs(client)
    write(runs, 0, epochs=200)
    runs.close()
    (run,) = find_trial_runs(client)
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 200


def test_a_run_that_mlflow_rejects_is_an_error_at_the_end_and_the_others_are_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Client.create_run

    def refuse_the_first(self: Client, *words: object, tags: dict[str, str], **named: object) -> Run:
        if tags.get("trial") == "0":
            raise MlflowException("no room", error_code=INVALID_PARAMETER_VALUE)
        return create(self, *words, tags=tags, **named)  # type: ignore[arg-type]

    runs = open_runs(client)
    monkeypatch.setattr(Client, "create_run", refuse_the_first)
    for number in (0, 1):
        write(runs, number)
        runs.end_trial(number, "complete", METRICS, "")
    with pytest.raises(WorkFailed, match="no room"):
        runs.close()
    assert [run.data.tags["trial"] for run in find_trial_runs(client)] == ["1"]


def test_an_experiment_has_the_saved_view(client: Client) -> None:
    open_runs(client)
    found = client.get_experiment_by_name("ser-made")
    view = json.loads(found.tags["mlflow.sharedViewState.ser"])
    assert view["orderByKey"] == "metrics.`best_dev_uar`"
    logged = {f"metrics.`{name}`" for name in (*EPOCH_METRICS, *END_METRICS)} | {
        f"params.`{name}`" for name in SETTINGS.dotted()
    }
    assert set(view["selectedColumns"]) <= logged | {"tags.`state`"}


def test_an_experiment_of_an_older_version_gets_the_view(client: Client) -> None:
    client.create_experiment("ser-older")
    assert find_or_create_experiment(client, "ser-older") == client.get_experiment_by_name("ser-older").experiment_id
    assert "mlflow.sharedViewState.ser" in client.get_experiment_by_name("ser-older").tags
