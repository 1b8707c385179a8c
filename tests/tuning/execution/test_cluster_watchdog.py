"""A process whose cluster was lost ends with one line instead of waiting forever."""

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
    """The socket of the head of a cluster of one node; SIGINT is enabled, which a shell's `&` disables."""
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


def test_work_ends_when_the_head_is_lost(head: socket.socket) -> None:
    with pytest.raises(WorkFailed, match=r"lost the Ray cluster at 127.0.0.1:\d+;.*--resume"):
        work_on(head.close)


def test_work_ends_when_no_node_is_left(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkFailed, match="lost the Ray cluster"):
        work_on(lambda: monkeypatch.setattr("ray.nodes", lambda: [{"Alive": False}]))


def test_a_task_lost_with_this_node_is_reported_as_a_lost_cluster(head: socket.socket) -> None:
    with pytest.raises(WorkFailed, match="lost the Ray cluster"), watch_cluster():
        raise LocalRayletDiedError


def test_nodes_that_return_in_time_do_not_end_the_work(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with watch_cluster():
        for _ in range(3):
            monkeypatch.setattr("ray.nodes", lambda: [])
            time.sleep(PATIENCE_S / 2)
            monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
            time.sleep(PATIENCE_S / 2)


def test_a_process_that_ignores_the_interrupt_is_ended(
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
    assert "ser: lost the Ray cluster at 127.0.0.1:" in capsys.readouterr().err


def test_ctrl_c_still_raises_keyboard_interrupt(head: socket.socket) -> None:
    with pytest.raises(KeyboardInterrupt), watch_cluster():
        raise KeyboardInterrupt


def test_a_head_that_never_answered_does_not_count_as_lost(head: socket.socket) -> None:
    head.close()
    with watch_cluster():
        time.sleep(2 * PATIENCE_S)
