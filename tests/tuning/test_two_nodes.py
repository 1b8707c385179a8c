"""A study on two nodes, of which the second sees none of the driver's folders, and dies."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 6
SPACE = f"""
role: student
base: {{model.name: bilstm, model.hidden_size: 16, train.epochs: 60, train.patience: 60, train.batch_size: 4}}
space:
  optimizer.lr: {{loguniform: [1.0e-3, 1.0e-2]}}
budget: {{trials: {TRIALS}}}
confirm: {{trials: 1, seeds: 1}}
sampler: {{name: random}}
scheduler: {{name: none}}
"""
# An empty folder that cannot be written, in place of the driver's, in a world of mounts of its own.
BLIND = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def can_blind() -> bool:
    try:
        return subprocess.run([*BLIND, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not can_blind(), reason="no folder can be hidden from a process here (unshare --mount)"),
]


class Nodes:
    """Two nodes of one core: `driver` is the first one's folder, which the second cannot see."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.other = folder / "driver", folder / "other"
        self.port, *self.agents = free_ports(3)
        self.first = self._environment(self.driver)
        self.second = self._environment(self.other)

    def _environment(self, folder: Path) -> dict[str, str]:
        (folder / "user").mkdir(parents=True)
        (folder / "work").mkdir()
        (folder / "token").write_text("0123456789abcdef" * 4)
        (folder / "token").chmod(0o600)
        own = {"HOME": str(folder / "user"), "SER_HOME": str(folder / "ser-home"), "PYTHONPATH": str(ROOT)}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
        return inherited | own | token | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}

    @contextlib.contextmanager
    def head(self, temporary: Path) -> Iterator[None]:
        words = ["--head", "--port", str(self.port), "--include-dashboard", "false", "--temp-dir", str(temporary)]
        with started([*ray_start(self.agents[0]), *words], self.driver / "work", self.first):
            wait_for(self._answers)
            yield

    def _answers(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    @contextlib.contextmanager
    def blind(self, temporary: Path) -> Iterator[None]:
        words = [*ray_start(self.agents[1]), "--address", f"127.0.0.1:{self.port}", "--temp-dir", str(temporary)]
        hidden = f'mount -t tmpfs -o ro none {self.driver} && exec "$@"'
        with started([*BLIND, "sh", "-c", hidden, "sh", *words], self.other / "work", self.second):
            yield

    def raylet_of(self, temporary: Path) -> int:
        """Return the process of the raylet whose sockets lie under `temporary`."""
        import psutil

        (found,) = (
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if (words := process.info["cmdline"] or [""])[0].endswith("/raylet")
            and any(word.startswith(f"--raylet_socket_name={temporary}/") for word in words)
        )
        return found

    def ser(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from ser_platform.cli import main; main()", *words]
        environment = self.first | {"RAY_ADDRESS": f"127.0.0.1:{self.port}"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.driver / "work", env=environment, text=True, **pipes)

    def wait_for_both(self) -> None:
        script = (
            "import time, ray; ray.init(logging_level='ERROR')\n"
            "while len([node for node in ray.nodes() if node['Alive']]) < 2: time.sleep(0.2)"
        )
        environment = self.first | {"RAY_ADDRESS": f"127.0.0.1:{self.port}"}
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60, capture_output=True)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as found:
        sockets = [found.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def ray_start(agent: int) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *("--num-cpus", "1", "--node-ip-address", "127.0.0.1"),
        *("--dashboard-agent-listen-port", str(agent)),  # a node that finds it taken tries again, for seconds
    ]


@contextlib.contextmanager
def started(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process, and what it has started, for as long as the block."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(happened: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_node_with_a_disk_of_its_own_trains_trials_and_may_die(tone_corpus: Path, tmp_path: Path) -> None:
    nodes, space = Nodes(tmp_path), tmp_path / "driver" / "work" / "two.yaml"
    space.write_text(SPACE)
    # Names of sockets are short.
    heads, blinds = (Path("/tmp") / f"ser-{os.getpid()}-{name}" for name in "ab")
    received = tmp_path / "other" / "ser-home" / "features"
    with nodes.head(heads), nodes.blind(blinds):
        nodes.wait_for_both()
        process = nodes.ser("tune", str(space), "--corpus", str(tone_corpus))
        try:
            wait_for(lambda: process.poll() is not None or list(received.glob("log_mel-*/*.json")))
            time.sleep(1)  # the trial that has asked for features is on its way
            assert process.poll() is None, process.communicate()[0]
            os.kill(nodes.raylet_of(blinds), signal.SIGKILL)
            said, _ = process.communicate(timeout=150)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, said
    assert f"{TRIALS} trials complete, 0 stopped early, 0 failed" in said, said
    shown = nodes.ser("studies", "list", "--json").communicate()[0]
    (study,) = json.loads(shown)
    trials = json.loads(nodes.ser("studies", "show", study["name"], "--json").communicate()[0])["trials"]
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    lost = [path.parent for path in (tmp_path / "driver" / "work" / "runs").glob("*/tune-*/*/error.txt")]
    assert lost, "the node has taken a trial with it"
    assert not list((tmp_path / "other").rglob("runs")), "the driver alone writes what is kept"
    assert not (tmp_path / "driver" / "user" / ".ray").exists(), "no token is written beside the one that is named"
