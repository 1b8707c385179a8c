"""`ser submit`: the files that are sent, and the folder of the job."""

import json
from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tuning.execution.job_submission import (
    DEFAULT_ADDRESS,
    connect,
    enter_job_folder,
    find_address,
    pack_spaces,
)

SPACE = """
role: student
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 2, train.batch_size: 16}
space:
  optimizer.lr: {loguniform: [1.0e-3, 1.0e-2]}
budget: {trials: 2}
confirm: {trials: 1, seeds: 1}
"""


def test_named_search_spaces_are_sent_with_the_job(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SPACE)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "ours.yaml").write_text(SPACE)
    words = [str(tmp_path / "mine.yaml"), "ours", "--corpus", "/speech/emodb"]
    assert pack_spaces(words, tmp_path / "sent") == ["search_spaces/mine.yaml", "ours", "--corpus", "/speech/emodb"]
    assert sorted(path.name for path in (tmp_path / "sent").iterdir()) == ["mine.yaml", "ours.yaml"]


def test_two_search_spaces_with_one_file_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.yaml").write_text(SPACE)
    with pytest.raises(UserError, match="two search spaces have this file name"):
        pack_spaces(["one/mine.yaml", "./other/mine.yaml"], tmp_path / "sent")


def test_a_search_space_that_is_no_file_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no search space 'away.yaml'"):
        pack_spaces(["away.yaml"], tmp_path / "sent")


def test_a_job_works_in_a_permanent_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text(SPACE)
    (tmp_path / "own.yaml").write_text(SPACE)
    words = ["mine", "./own.yaml", "--json"]
    assert enter_job_folder(words) == words
    assert Path.cwd() == tmp_path, "outside a job nothing changes"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    assert enter_job_folder(words) == ["mine", "search_spaces/own.yaml", "--json"]
    assert Path.cwd() == tmp_path / "ser-home" / "jobs" / "raysubmit_1"
    assert [(Path.cwd() / "search_spaces" / name).read_text() for name in ("mine.yaml", "own.yaml")] == [SPACE, SPACE]


def test_a_ray_address_that_is_no_url_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert find_address() == DEFAULT_ADDRESS
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert find_address() == "http://head:8265"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:8265"])
def test_a_wrong_address_is_reported_in_one_line(address: str) -> None:
    with pytest.raises(UserError, match=address) as error:
        connect(address)
    assert "\n" not in str(error.value)
