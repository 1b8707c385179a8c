"""The candidate is the version with the best dev UAR among versions of the same task."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ser_platform.errors import UserError
from ser_platform.tracking.gate_inputs import read_policy
from ser_platform.tracking.registry import (
    CANDIDATE,
    RegisteredVersion,
    find_alias,
    find_model,
    find_version,
    list_candidate_names,
    list_models,
    make_model_name,
    update_candidate,
)

NAME = "ser-teacher"
TAGS = {"split": "s1", "labels": "anger neutral", "protocol": "speaker"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('store'))}"


@pytest.fixture
def client(store: str, tmp_path: Path) -> MlflowClient:
    client = MlflowClient(store)  # the tests share one store; each begins without versions
    if client.search_registered_models():
        client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    return client


def register_version(client: MlflowClient, metrics: dict[str, float], **tags: str) -> RegisteredVersion:
    """Register a version with dev figures and tags; return it."""
    version = client.create_model_version(NAME, str(Path.cwd()), tags=TAGS | tags | {"metrics": json.dumps(metrics)})
    return update_candidate(client, find_version(client, NAME, str(version.version)))


def candidate(client: MlflowClient) -> str:
    found = find_alias(client, NAME, CANDIDATE)
    assert found is not None
    return found.version


def test_a_version_that_is_worse_on_dev_does_not_become_the_candidate(client: MlflowClient) -> None:
    assert (
        register_version(client, {"dev_uar_new_seeds": 0.71}).registration_message
        == "registered ser-teacher version 1 as candidate"
    )
    worse = register_version(client, {"dev_uar_new_seeds": 0.68, "dev_uar_search": 0.9, "test_uar": 0.95})
    assert candidate(client) == "1"
    assert worse.aliases == ()
    assert worse.registration_message == (
        "registered ser-teacher version 2; version 1 stays candidate: dev UAR 0.710 against 0.680"
    )


@pytest.mark.parametrize("dev_uar", [0.71, 0.72])
def test_a_version_that_is_not_worse_on_dev_becomes_the_candidate(client: MlflowClient, dev_uar: float) -> None:
    register_version(client, {"dev_uar_new_seeds": 0.71})
    assert register_version(client, {"dev_uar_new_seeds": dev_uar}).registration_message.endswith(
        "version 2 as candidate"
    )
    assert candidate(client) == "2"


@pytest.mark.parametrize("tag", ["split", "labels", "protocol"])
def test_a_version_of_another_task_becomes_the_candidate_whatever_its_figure(client: MlflowClient, tag: str) -> None:
    register_version(client, {"dev_uar_new_seeds": 0.71})
    register_version(client, {"dev_uar_new_seeds": 0.4}, **{tag: "other"})
    assert candidate(client) == "2"


def test_a_trained_version_is_compared_by_its_own_dev_figure(client: MlflowClient) -> None:
    register_version(client, {"dev_uar_new_seeds": 0.71})
    register_version(client, {"dev_uar": 0.6})
    assert candidate(client) == "1"
    register_version(client, {"dev_uar": 0.8})
    assert candidate(client) == "3"


def test_a_version_that_was_passed_over_becomes_the_candidate_once_it_is_better(client: MlflowClient) -> None:
    register_version(client, {"dev_uar_new_seeds": 0.71})
    worse = register_version(client, {"dev_uar_new_seeds": 0.68})
    client.delete_registered_model_alias(NAME, CANDIDATE)
    again = update_candidate(client, worse)
    assert again.registration_message == "registered ser-teacher version 2 as candidate"
    assert candidate(client) == "2"


@pytest.mark.parametrize(
    "reference", ["ser-teacher@candidate/1", "ser-teacher@", "ser-teacher/", "ser-teacher/x", "/1", ""]
)
def test_an_invalid_reference_is_refused_with_the_valid_forms(client: MlflowClient, reference: str) -> None:
    register_version(client, {"dev_uar": 0.5})
    with pytest.raises(UserError, match="names no model; write NAME, NAME@ALIAS or NAME/VERSION"):
        find_model(client, reference)


@pytest.mark.parametrize("reference", ["ser-teacher@candidate", "ser-teacher/1", "models:/ser-teacher/1"])
def test_a_version_is_found_by_alias_and_by_number(client: MlflowClient, reference: str) -> None:
    register_version(client, {"dev_uar": 0.5})
    assert find_model(client, reference).version == "1"


def test_a_missing_version_is_refused(client: MlflowClient) -> None:
    with pytest.raises(UserError, match="there is no version 9 of a model ser-teacher"):
        find_model(client, "ser-teacher/9")
    with pytest.raises(UserError, match="ser-teacher has no champion yet"):
        find_model(client, "ser-teacher")


@pytest.mark.parametrize("find", [find_version, find_alias])
def test_a_missing_permission_is_not_reported_as_a_missing_version(client, monkeypatch, find) -> None:
    def refuse(*_: str) -> None:
        raise MlflowException("Permission denied", error_code="PERMISSION_DENIED")

    monkeypatch.setattr(client, "get_model_version", refuse)
    monkeypatch.setattr(client, "get_model_version_by_alias", refuse)
    with pytest.raises(MlflowException, match="Permission denied"):
        find(client, NAME, "1")


def test_models_are_listed_under_every_name_but_not_those_of_other_tools(client: MlflowClient) -> None:
    for name, tags in (("calls-student", {"digest": "d"}), ("bert-student", {}), ("ser-lock-ser-student", {})):
        client.create_registered_model(name)
        client.create_model_version(name, str(Path.cwd()), tags=tags)
        client.set_registered_model_alias(name, CANDIDATE, "1")
    try:
        assert [model.title for model in list_models(client)] == ["calls-student v1"]
        assert list_candidate_names(client) == ["calls-student"]
    finally:
        for name in ("calls-student", "bert-student", "ser-lock-ser-student"):
            client.delete_registered_model(name)


def test_a_task_s_models_have_its_name_and_the_policy_of_their_role() -> None:
    assert make_model_name("student") == "ser-student"
    assert make_model_name("student", "calls") == "calls-student"
    assert read_policy(None, "calls-student") == read_policy(None, "ser-student")
    for name in ("my calls", "calls/2", "a@b", "ser-lock"):
        with pytest.raises(UserError, match="--register-as takes letters"):
            make_model_name("teacher", name)
