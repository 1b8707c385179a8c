"""After an outage or lost responses, the store has the same runs as without them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.errors import SerError, WorkFailed
from ser_platform.settings import resolve
from ser_platform.tracking import runs as writing
from ser_platform.tracking.event_writer import EventWriter
from ser_platform.tracking.mlflow_store import find_or_create_experiment
from ser_platform.tracking.offline_queue import EventOwner, OfflineQueue
from ser_platform.tracking.retrying_client import RetryingClient, StoreUnavailable
from ser_platform.tracking.runs import StudyRuns, send_queued_events
from tests.tracking.servers import LosingProxy, Server
from tests.tuning.study.test_recorder import result

SETTINGS = resolve({"model.name": "bilstm"})
N_TRIALS = 8


def shorten_pauses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writing, "BATCH_PAUSE_S", 0.05)
    patch.setattr(writing, "STORE_RETRY_S", 0.2)
    patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    patch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch)


def study(client: RetryingClient, name: str, folder: Path | None) -> StudyRuns:
    return StudyRuns(client, find_or_create_experiment(client, "ser-made"), name, {"role": "student"}, folder=folder)


def trial(runs: StudyRuns, number: int) -> None:
    runs.start_trial(number, SETTINGS)
    train_and_end(runs, number)


def train_and_end(runs: StudyRuns, number: int) -> None:
    for epoch in (1, 2, 3):
        runs.log_epoch(number, result(epoch, 0.1 * number + 0.01 * epoch))
    state = "failed" if number == 3 else "complete"
    runs.end_trial(number, state, {"epochs": 3.0, "parameters": 7.0}, "a reason" if number == 3 else "")


def settle(runs: StudyRuns) -> None:
    runs.close()
    runs.finish_study({"test_uar": 0.5}, {"state": "finished"})


def content(client: RetryingClient, name: str) -> dict[str, Any]:
    """Return the content of a study's runs by trial, without ids and times."""
    found = client.search_runs([find_or_create_experiment(client, "ser-made")], f"tags.study = '{name}'")
    runs: dict[str, Any] = {}
    for run in found:
        number = run.data.tags.get("trial", "parent")
        assert number not in runs, "a run exists twice"
        histories = {
            key: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
            if not key.startswith("system/")
        }
        tags = {key: value for key, value in run.data.tags.items() if key in ("role", "state", "reason", "trial")}
        runs[number] = (run.info.status, histories, run.data.params, tags, run.info.run_name.replace(name, ""))
    return runs


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of the runs of a study without an outage. Read only."""
    folder = tmp_path_factory.mktemp("calm") / "calm"
    with pytest.MonkeyPatch.context() as patch:
        shorten_pauses(patch)
        client = RetryingClient(server.url)
        runs = study(client, "calm", folder)
        for number in range(N_TRIALS):
            trial(runs, number)
        settle(runs)
        assert not folder.exists(), "no event was queued"
        found = content(client, "calm")
    assert len(found) == N_TRIALS + 1
    return found


def drain(runs: StudyRuns) -> None:
    """Wait until the writer has taken every event."""
    for _ in range(400):
        if runs._events.empty() and not runs._batch:
            return
        writing.time.sleep(0.05)
    raise AssertionError("the writer hangs")


def test_a_server_that_is_killed_during_a_study_gets_every_event(
    server: Server, expected: dict[str, Any], tmp_path: Path
) -> None:
    runs = study(RetryingClient(server.url), "killed", tmp_path / "killed")
    trial(runs, 0)
    trial(runs, 1)
    runs.start_trial(2, SETTINGS)
    drain(runs)
    server.kill()
    train_and_end(runs, 2)
    for number in range(3, 7):  # more than half of the trials end during the outage
        trial(runs, number)
    drain(runs)
    assert runs.unsent_file is not None
    server.start()
    trial(runs, 7)
    settle(runs)
    assert runs.unsent_file is None
    assert content(RetryingClient(server.url), "killed") == expected


@pytest.mark.parametrize("lost", ["runs/create", "runs/log-batch", "runs/update", "runs/search"])
def test_lost_responses_duplicate_nothing(server: Server, expected: dict[str, Any], tmp_path: Path, lost: str) -> None:
    requests: Counter[str] = Counter()

    def every_third(path: str) -> bool:
        requests[path] += 1
        return path.endswith(lost) and requests[path] % 3 == 1

    proxy, name = LosingProxy(server.port, every_third), f"lost-{lost.replace('/', '-')}"
    runs = study(RetryingClient(proxy.url), name, tmp_path / "lost")
    for number in range(N_TRIALS):
        trial(runs, number)
        drain(runs)
    settle(runs)
    proxy.stop()
    assert any(path.endswith(lost) for path in proxy.lost)
    assert content(RetryingClient(server.url), name) == expected


def test_lost_responses_duplicate_nothing_without_a_folder(
    server: Server, expected: dict[str, Any], tmp_path: Path
) -> None:
    requests = Counter[str]()

    def first_two(path: str) -> bool:
        requests[path] += 1
        return path.endswith("runs/create") and requests[path] in (2, 4)

    proxy = LosingProxy(server.port, first_two)
    runs = study(RetryingClient(proxy.url), "folderless", None)
    for number in range(N_TRIALS):
        trial(runs, number)
        drain(runs) if number > 4 else None
    settle(runs)
    proxy.stop()
    assert content(RetryingClient(server.url), "folderless") == expected


def test_queued_events_survive_the_process_with_their_times(
    server: Server, expected: dict[str, Any], tmp_path: Path
) -> None:
    runs = study(RetryingClient(server.url), "left", tmp_path / "left")
    trial(runs, 0)
    drain(runs)
    server.kill()
    before = writing._now_ms()
    for number in range(1, N_TRIALS):
        trial(runs, number)
    runs.close()
    after = writing._now_ms()
    runs.finish_study({"test_uar": 0.5}, {"state": "finished"}, wait=False)
    assert runs.unsent_file == OfflineQueue(tmp_path / "left").path
    server.start()

    client = RetryingClient(server.url)
    again = study(client, "left", tmp_path / "left")  # as in a new process
    assert again.unsent_file is None
    assert again.is_run_whole(5)
    again.close()
    again.finish_study({}, {})
    assert content(client, "left") == expected
    found = client.search_runs(
        [find_or_create_experiment(client, "ser-made")], "tags.study = 'left' and tags.trial = '5'"
    )
    (run,) = found
    assert before <= run.info.start_time <= run.info.end_time <= after
    assert all(before <= one.timestamp <= after for one in client.get_metric_history(run.info.run_id, "dev_uar"))


def test_a_store_that_does_not_answer_is_an_error_of_one_line(server: Server, tmp_path: Path) -> None:
    client = RetryingClient(server.url, max_wait_s=0.5)
    runs = study(client, "away", tmp_path / "away")
    server.kill()
    trial(runs, 0)
    runs.close()
    with pytest.raises(StoreUnavailable, match="the MLflow store does not answer"):
        runs.finish_study({}, {})
    server.start()
    runs.finish_study({}, {})
    assert runs.unsent_file is None


def test_sync_sends_the_events_of_a_killed_study(
    server: Server, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    runs = study(RetryingClient(server.url), "orphan", tmp_path / "runs" / "orphan")
    server.kill()
    for number in range(N_TRIALS):
        trial(runs, number)
    runs.close()  # and the process is killed
    killed = writing._now_ms()
    down = CliRunner().invoke(app, ["tracking", "sync"])
    assert isinstance(down.exception, SerError)
    assert "does not answer" in str(down.exception)
    server.start()
    unknown = CliRunner().invoke(app, ["tracking", "sync", "another"])
    assert "no events wait for another; studies with waiting events: orphan" in str(unknown.exception)
    done = CliRunner().invoke(app, ["tracking", "sync"])
    assert done.exit_code == 0, done.exception
    assert f"orphan: {5 * N_TRIALS} events sent" in done.output
    found = content(RetryingClient(server.url), "orphan")
    assert found.pop("parent")[0] == "KILLED"
    assert RetryingClient(server.url).get_run(runs.parent_id).info.end_time <= killed
    assert found == {number: run for number, run in expected.items() if number != "parent"}
    again = CliRunner().invoke(app, ["tracking", "sync"])
    assert "no events wait" in again.output


def test_events_of_another_store_are_not_sent_to_this_one(server: Server, tmp_path: Path) -> None:
    spool = OfflineQueue(tmp_path / "study")
    spool.append(EventOwner("unknown", "0", {}), [{"kind": "end", "trial": 0}])
    with pytest.raises(WorkFailed, match="not in this store; set MLFLOW_TRACKING_URI"):
        send_queued_events(RetryingClient(server.url), tmp_path / "study")
    assert not spool.is_empty


START = {"kind": "start", "trial": 0, "time": 1}
OWNER = EventOwner("a", "1", {})


def test_a_line_that_was_cut_short_is_left_out_and_damages_no_later_one(tmp_path: Path) -> None:
    spool = OfflineQueue(tmp_path / "study")
    spool.append(OWNER, [START, START | {"kind": "end"}])
    with spool.path.open("a") as file:
        file.write('{"kind": "sta')
    assert spool.read() == (OWNER, [START, START | {"kind": "end"}])
    spool.append(OWNER, [START])
    assert spool.read() == (OWNER, [START, START | {"kind": "end"}, START])


@pytest.mark.parametrize("content", [b"", b'{"study": "a", "exp', b"\xff\xfe\x00\n5\n", b'{"kind": "start"}\n[]\n'])
def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path, content: bytes) -> None:
    spool = OfflineQueue(tmp_path)
    spool.path.write_bytes(content)
    assert spool.is_empty == (not content)
    assert spool.read() == (None, [])


def test_events_stay_in_memory_where_the_disk_is_full(
    server: Server, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = study(RetryingClient(server.url), "no-disk", tmp_path / "no-disk")
    trial(runs, 0)
    drain(runs)

    def full(self: OfflineQueue, *what: object) -> None:
        raise WorkFailed("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(OfflineQueue, "append", full)
        server.kill()
        for number in range(1, N_TRIALS):
            trial(runs, number)
        writing.time.sleep(1)
        server.start()
    settle(runs)
    assert content(RetryingClient(server.url), "no-disk") == expected


def test_an_error_in_the_writer_is_raised_at_the_end(server: Server, tmp_path: Path, monkeypatch) -> None:
    runs = study(RetryingClient(server.url), "broken", tmp_path / "broken")

    def broken(self: EventWriter, *what: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(EventWriter, "send", broken)
    trial(runs, 0)
    with pytest.raises(WorkFailed, match="did not get every run of broken: ZeroDivisionError"):
        runs.close()
