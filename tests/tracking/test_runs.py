"""Runs of a study in MLflow."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from ser_platform.errors import WorkFailed
from ser_platform.settings import resolve
from ser_platform.tracking.event_writer import EPOCH_METRICS
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.runs import END_METRICS, StudyRuns
from ser_platform.tracking.ui_view import list_links
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


def read_view(client: Client, experiment: str, key: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the state of a saved view."""
    view = json.loads(client.get_experiment(experiment).tags[f"mlflow.sharedViewState.{key}"])
    return view["name"], json.loads(view["state"])


def test_the_newest_study_and_each_role_have_a_saved_view(client: Client) -> None:
    experiment, axes = (
        find_or_create_experiment(client, "ser-made"),
        ["optimizer.lr", "distill.alpha", "data.max_seconds"],
    )
    for name, role, searched in (("first", "teacher", ["optimizer.lr"]), ("second", "student", axes)):
        StudyRuns(client, experiment, name, {"role": role}, axes=searched).close()
    name, newest = read_view(client, experiment, "ser")
    assert "second" in name and newest["searchFilter"] == 'tags.study = "second" AND tags.trial != ""'
    assert read_view(client, experiment, "ser-teacher")[1]["searchFilter"].startswith('tags.role = "teacher"')
    state = read_view(client, experiment, "ser-student")[1]
    charts = [chart["selectedParams"] for chart in state["compareRunCharts"]]
    assert charts == [["data.max_seconds", "distill.alpha"], axes], "the searched settings alone, the main ones first"
    assert state["selectedColumns"][:5] == [
        "metrics.`best_dev_uar`",
        "params.`distill.alpha`",
        "params.`distill.temperature`",
        "tags.`role`",
        "tags.`study`",
    ]
    assert state["orderByKey"] == "metrics.`best_dev_uar`"
    logged = {f"metrics.`{name}`" for name in (*EPOCH_METRICS, *END_METRICS)} | {
        f"params.`{name}`" for name in SETTINGS.dotted()
    }
    assert set(state["selectedColumns"]) <= logged | {f"tags.`{name}`" for name in ("role", "study", "state")}


def test_a_control_leaves_the_views_on_the_study_that_it_is_compared_with(client: Client) -> None:
    experiment = find_or_create_experiment(client, "ser-made")
    for name, axes in (("student", ["distill.alpha"]), ("student_control", None)):
        StudyRuns(client, experiment, name, {"role": "student"}, axes=axes).close()
    assert read_view(client, experiment, "ser")[0] == "newest study, student"
    assert read_view(client, experiment, "ser-student")[1]["compareRunCharts"][0]["selectedParams"] == ["distill.alpha"]


def test_a_training_without_searched_settings_leaves_the_view_of_its_role(client: Client) -> None:
    experiment = find_or_create_experiment(client, "ser-made")
    trained: list[str] = []
    for name, axes in (("searched", ["optimizer.lr"]), ("trained", trained)):
        StudyRuns(client, experiment, name, {"role": "student"}, axes=axes).close()
    assert "trained" in read_view(client, experiment, "ser")[0]
    assert read_view(client, experiment, "ser-student")[1]["compareRunCharts"]


def test_the_first_link_is_the_newest_study_and_each_link_opens_the_ui_for_trained_models(client: Client) -> None:
    url = "http://127.0.0.1:5000"
    assert list_links(client, url) == [f"{url}/#/experiments?workflowType=machine_learning"], "no study yet"
    older, newer = (find_or_create_experiment(client, name) for name in ("ser-older", "ser-newer"))
    for experiment, name in ((older, "one"), (newer, "two")):
        StudyRuns(client, experiment, name, {"role": "student"}, axes=["optimizer.lr"]).close()
    first, *others = list_links(client, url)
    assert first == f"{url}/#/experiments/{newer}/runs?viewStateShareKey=ser&workflowType=machine_learning"
    assert all("workflowType=machine_learning" in line for line in others)
    assert [line.partition(":")[0] for line in others] == [
        "its settings as a chart",
        "ser-newer, all student trials",
        "ser-older, newest study, one",
        "ser-older, all student trials",
    ]
