"""A process whose cluster is gone ends in a line, not in a wait for ever."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from ray.exceptions import LocalRayletDiedError

from ser_platform.errors import WorkFailed
from ser_platform.tuning.execution import cluster_watchdog
from ser_platform.tuning.execution.cluster_watchdog import watch_cluster
from tests.tuning.nodes import wait_for

PATIENCE_S = 0.5

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The port of a cluster's head, of one node; SIGINT is heard, as it is not behind a shell's `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cluster_watchdog, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(cluster_watchdog, "CLUSTER_TIMEOUT_S", PATIENCE_S)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
        yield listening
    signal.signal(signal.SIGINT, before)


def work_on(happens: Callable[[], None]) -> None:
    with watch_cluster():
        happens()
        time.sleep(30)


def test_work_ends_where_the_head_is_gone(head: socket.socket) -> None:
    with pytest.raises(WorkFailed, match=r"the Ray cluster at 127.0.0.1:\d+ is gone.*--resume"):
        work_on(head.close)


def test_work_ends_where_no_node_is_left(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkFailed, match="is gone"):
        work_on(lambda: monkeypatch.setattr("ray.nodes", lambda: [{"Alive": False}]))


def test_a_task_that_was_lost_with_this_node_is_told_as_the_cluster_gone(head: socket.socket) -> None:
    with pytest.raises(WorkFailed, match="is gone"), watch_cluster():
        raise LocalRayletDiedError


def test_nodes_that_come_back_in_time_are_waited_for(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with watch_cluster():
        for _ in range(3):
            monkeypatch.setattr("ray.nodes", lambda: [])
            time.sleep(PATIENCE_S / 2)
            monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
            time.sleep(PATIENCE_S / 2)


def test_a_process_that_ray_holds_in_a_call_is_ended(
    head: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(cluster_watchdog, "INTERRUPT_GRACE_S", 0.1)
    monkeypatch.setattr("signal.pthread_kill", lambda *_: None)
    monkeypatch.setattr("os._exit", ended.append)
    with watch_cluster():
        head.close()
        wait_for(lambda: ended, seconds=10)
    assert ended == [1]
    assert "ser: the Ray cluster at 127.0.0.1:" in capsys.readouterr().err


def test_ctrl_c_stays_what_it_is(head: socket.socket) -> None:
    with pytest.raises(KeyboardInterrupt), watch_cluster():
        raise KeyboardInterrupt


def test_a_head_that_cannot_be_asked_is_not_taken_for_gone(head: socket.socket) -> None:
    head.close()
    with watch_cluster():
        time.sleep(2 * PATIENCE_S)
