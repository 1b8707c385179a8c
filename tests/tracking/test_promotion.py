"""Promotion with a real server: two at once, kills between the writes, recorded decisions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts

from ser_platform.errors import PromotionRefused, UserError
from ser_platform.evaluation.promotion_gates import Gate
from ser_platform.tracking import promotion
from ser_platform.tracking.gate_inputs import read_test_predictions
from ser_platform.tracking.registry import CANDIDATE, CHAMPION, PREVIOUS, RegisteredVersion, find_alias, find_version
from ser_platform.tracking.retrying_client import RetryingClient
from tests.tracking.servers import Server

NAME = "ser-student"
GOOD, BAD = (
    [Gate("UAR", True, "gain +0.020")],
    [Gate("UAR", True, "gain +0.020"), Gate("size", False, "9 MB, at most 5")],
)


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> RetryingClient:
    """A store with three versions; the third is the candidate, none the champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    client = RetryingClient(server.url)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    experiment = client.create_experiment("ser-made")
    client.create_registered_model(NAME)
    for _ in range(3):
        run = client.create_run(experiment, tags={"study": os.urandom(4).hex()})
        client.create_model_version(NAME, f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias(NAME, CANDIDATE, "3")
    return client


def find_numbered(client: RetryingClient, number: int) -> RegisteredVersion:
    return find_version(client, NAME, str(number))


def find_aliases(client: RetryingClient) -> tuple[str | None, str | None]:
    champion, previous = (find_alias(client, NAME, alias) for alias in (CHAMPION, PREVIOUS))
    return champion and champion.version, previous and previous.version


def make_champions(client: RetryingClient, *numbers: int) -> None:
    for number in numbers:
        promotion.promote(client, find_numbered(client, number), find_alias(client, NAME, CHAMPION), GOOD)


def test_the_champion_becomes_the_previous_and_a_rollback_swaps_them(client: RetryingClient) -> None:
    make_champions(client, 1)
    assert find_aliases(client) == ("1", None)
    make_champions(client, 2)
    assert find_aliases(client) == ("2", "1")
    assert promotion.rollback(client, NAME, "it shouts").version == "1"
    assert find_aliases(client) == ("1", "2")
    tag = find_numbered(client, 1).tags["rollback"]
    assert tag.startswith("rolled back to 20") and tag.endswith("against ser-student v2: it shouts.")


def test_a_rollback_without_a_previous_champion_is_refused(client: RetryingClient) -> None:
    make_champions(client, 1)
    with pytest.raises(UserError, match="no previous champion"):
        promotion.rollback(client, NAME)


def test_a_refusal_lists_every_failed_gate_and_is_recorded(client: RetryingClient) -> None:
    with pytest.raises(PromotionRefused, match="ser-student v3 is not promoted. size: 9 MB, at most 5"):
        promotion.promote(client, find_numbered(client, 3), None, BAD)
    assert find_aliases(client) == (None, None)
    assert "size FAILED (9 MB, at most 5)" in find_numbered(client, 3).tags["promotion_refused"]
    promotion.promote(client, find_numbered(client, 3), None, BAD, reason="the demo")
    assert "in spite of failed gates: the demo" in find_numbered(client, 3).tags["promotion"]


def test_every_decision_is_a_file_with_all_figures(client: RetryingClient, tmp_path: Path) -> None:
    make_champions(client, 1)
    run = find_numbered(client, 1).run_id
    (listed,) = client.list_artifacts(run, "promotion")
    path = download_artifacts(run_id=run, artifact_path=listed.path, dst_path=str(tmp_path))
    decision = json.loads(Path(path).read_text())
    assert (decision["outcome"], decision["against"]) == ("promoted", "no champion")
    assert decision["gates"] == [{"name": "UAR", "passed": True, "detail": "gain +0.020", "verdict": "passed"}]


def test_a_promotion_is_refused_once_the_champion_has_changed(client: RetryingClient) -> None:
    make_champions(client, 1)
    with pytest.raises(UserError, match="v3 was compared with no champion, but the champion is now ser-student v1"):
        promotion.promote(client, find_numbered(client, 3), None, GOOD)


RACER = """
import sys
from ser_platform.errors import UserError
from ser_platform.evaluation.promotion_gates import Gate
from ser_platform.tracking import promotion
from ser_platform.tracking.gate_inputs import read_test_predictions
from ser_platform.tracking.retrying_client import RetryingClient
from ser_platform.tracking.registry import find_version
client = RetryingClient(sys.argv[1])
candidate = find_version(client, "ser-student", sys.argv[2])
print("ready", flush=True)
input()
try:
    promotion.promote(client, candidate, None, [Gate("UAR", True, "")])
except UserError as error:
    print(error)
"""


def test_of_two_promotions_at_once_one_is_refused(client: RetryingClient, server: Server) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, server.url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = {
        number: process.communicate(timeout=120)[0].strip() for number, process in zip((1, 2), both, strict=True)
    }
    (winner,) = [number for number, error in printed.items() if not error]
    (loser,) = [error for error in printed.values() if error]
    assert find_aliases(client) == (str(winner), None)
    assert "is being promoted or rolled back by" in loser or "the champion is now" in loser
    assert [model.name for model in client.search_registered_models()] == [NAME], "the lock is released"


WRITES = ("set_registered_model_tag", "set_registered_model_alias", "delete_registered_model_tag")


@pytest.mark.parametrize("after", range(4))
def test_a_kill_between_two_writes_is_repaired_by_the_next_command(
    client: RetryingClient, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    make_champions(client, 1, 2)
    done = 0

    def cut(name: str):
        whole = getattr(RetryingClient, name)

        def write(self: RetryingClient, *args: object, **more: object) -> object:
            nonlocal done
            if done == after:
                raise KeyboardInterrupt
            done += 1
            return whole(self, *args, **more)

        return write

    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(RetryingClient, name, cut(name))
        with pytest.raises(KeyboardInterrupt):
            make_champions(client, 3)
    assert find_aliases(client)[0] in ("2", "3"), "there is always a champion"
    client.claim(f"{promotion.LOCK_PREFIX}{NAME}", "the killed one", {"by": "ben", "until": "0"})  # its lease has ended
    promotion.rollback(client, NAME)
    # Without an intent, the champion goes from 2 back to 1; else 3 becomes the champion, and goes back to 2.
    assert find_aliases(client) == (("1", "2") if after == 0 else ("2", "3"))


def test_a_locked_promotion_is_refused_with_the_user_of_the_lock(client: RetryingClient) -> None:
    client.claim(f"{promotion.LOCK_PREFIX}{NAME}", "another", {"by": "anna", "until": "99999999999"})
    with pytest.raises(UserError, match="being promoted or rolled back by anna"):
        make_champions(client, 1)
    assert client.get_registered_model(f"{promotion.LOCK_PREFIX}{NAME}").tags["owner"] == "another"


def test_an_interrupted_move_to_a_deleted_version_is_dropped(client: RetryingClient) -> None:
    make_champions(client, 1, 2)
    for begun in ('{"champion": "9", "previous": "1"}', "no JSON", "[]"):
        client.set_registered_model_tag(NAME, promotion.INTENT_TAG, begun)
        client.claim(f"{promotion.LOCK_PREFIX}{NAME}", "somebody", {"by": "ben", "until": "no time"})
        promotion.rollback(client, NAME)
        assert promotion.INTENT_TAG not in client.get_registered_model(NAME).tags
    assert find_aliases(client) == ("1", "2")


def test_an_unknown_model_is_refused_before_the_lock_is_taken(client: RetryingClient) -> None:
    with pytest.raises(UserError, match="no registered model 'unknown'"):
        promotion.rollback(client, "unknown")
    assert [model.name for model in client.search_registered_models()] == [NAME]


def test_a_reason_does_not_overrule_the_bundle_gate(client: RetryingClient) -> None:
    broken = [Gate("bundle", False, "model.safetensors was altered")]
    with pytest.raises(PromotionRefused, match="bundle: model.safetensors was altered"):
        promotion.promote(client, find_numbered(client, 3), None, broken, reason="please")
    assert find_aliases(client) == (None, None)


@pytest.mark.parametrize(
    "content",
    [b"", b"audio_sha256,speaker\n", b"audio_sha256,emotion,predicted\na,anger,anger\n", b"\xff\xfe\n", b"a,b\n1,2\n"],
)
def test_damaged_test_predictions_are_refused(client: RetryingClient, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.csv").write_bytes(content)
    client.log_artifact(find_numbered(client, 1).run_id, str(tmp_path / "predictions.csv"), "test")
    with pytest.raises(UserError, match="test predictions of ser-student v1 are damaged"):
        read_test_predictions(client, find_numbered(client, 1))
