"""Artefacts of runs are listed, and removed when old; those of a registered version are not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.tracking.garbage_collection import list_run_files, remove_files, select_old
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.registry import delete_version, find_version, load_bundle, register
from tests.inference.test_bundle import made_bundle

NAME = "ser-student"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """A store with the runs of two studies; the first registered a model."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = open_client()
    (tmp_path / "report.html").write_text("x" * 1000)
    for study in ("first", "second"):
        run = client.create_run(find_or_create_experiment(client, "ser-made"), tags={"study": study}, run_name=study)
        client.create_run(find_or_create_experiment(client, "ser-made"), tags={"study": study, "trial": "0"})
        client.log_artifact(run.info.run_id, str(tmp_path / "report.html"), "report")
        if study == "first":
            digest = made_bundle().write(tmp_path / "bundle", "# a card")
            register(client, NAME, run.info.run_id, tmp_path / "bundle", digest, {"trial": "0"}, "# a card")
        client.set_terminated(run.info.run_id, end_time=1_000_000)
    return client


def test_files_are_listed_by_run_with_their_versions(client: Client) -> None:
    found = {each.name: each for each in list_run_files(client)}
    assert found["second"].size_bytes == 1000
    assert found["first"].size_bytes > 1000 and found["first"].versions == ("ser-student v1",)
    assert [each.name for each in select_old(list(found.values()), days=30)] == ["second"]
    assert select_old(list(found.values()), days=30_000_000) == []


def test_a_dry_run_removes_nothing_and_the_registered_version_stays(client: Client) -> None:
    dry = CliRunner().invoke(app, ["tracking", "gc"])
    assert "0.0 MB can be removed: ser tracking gc --older-than 30 --yes" in dry.output
    assert len(list_run_files(client)) == 2
    done = CliRunner().invoke(app, ["tracking", "gc", "--yes", "--json"])
    printed = json.loads(done.output)
    assert printed["removed_bytes"] == 1000
    assert [each.name for each in list_run_files(client)] == ["first"]
    assert load_bundle(client, find_version(client, NAME, "1")).role == "student"


def test_the_files_of_a_run_can_be_removed_once_its_version_is_deleted(client: Client) -> None:
    model = find_version(client, NAME, "1")
    client.delete_registered_model_alias(NAME, "candidate")
    delete_version(client, find_version(client, NAME, "1"))
    assert {each.name for each in select_old(list_run_files(client), days=1)} == {"first", "second"}
    remove_files(select_old(list_run_files(client), days=1))
    assert list_run_files(client) == []
    assert client.get_run(model.run_id).data.tags["study"] == "first", "the run itself stays"
