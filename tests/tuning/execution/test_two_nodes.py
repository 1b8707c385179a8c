"""A study on two nodes; the second cannot read the driver's folders, and is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from tests.tuning.nodes import free_ports, ray_node, wait_for

ROOT = Path(__file__).resolve().parents[3]
TRIALS = 4
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
# Mounts an empty read-only folder over the driver's, in a mount namespace of its own.
BLIND = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def can_blind() -> bool:
    try:
        return subprocess.run([*BLIND, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_blind(), reason="no folder can be hidden from a process here (unshare --mount)"),
]


class Nodes:
    """Two nodes of one core: `driver` is the folder of the first, which the second cannot read."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.other = folder / "driver", folder / "other"
        (self.port,) = free_ports(1)
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

    def head(self) -> AbstractContextManager[Path]:
        words = ["--num-cpus", "1", "--head", "--port", str(self.port), "--include-dashboard", "false"]
        return ray_node(self.driver / "work", self.first, *words, port=self.port)

    def blind(self) -> AbstractContextManager[Path]:
        words = ["--num-cpus", "1", "--address", f"127.0.0.1:{self.port}"]
        hidden = f'mount -t tmpfs -o ro none {self.driver} && exec "$@"'
        within = [*BLIND, "sh", "-c", hidden, "sh"]
        return ray_node(self.other / "work", self.second, *words, within=within)

    def raylet_of(self, temporary: Path) -> int:
        """Return the process of the raylet whose sockets are under `temporary`."""
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


def test_a_node_with_its_own_disk_trains_trials_and_can_be_killed(tone_corpus: Path, tmp_path: Path) -> None:
    nodes, space = Nodes(tmp_path), tmp_path / "driver" / "work" / "two.yaml"
    space.write_text(SPACE)
    received = tmp_path / "other" / "ser-home" / "features"
    with nodes.head(), nodes.blind() as blinds:
        process = nodes.ser("tune", str(space), "--corpus", str(tone_corpus))
        try:
            wait_for(lambda: process.poll() is not None or list(received.glob("log_mel-*/*.json")))
            time.sleep(1)  # the trial that received features is running
            assert process.poll() is None, process.communicate()[0]
            os.kill(nodes.raylet_of(blinds), signal.SIGKILL)
            output, _ = process.communicate(timeout=150)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, output
    assert f"{TRIALS}/{TRIALS} trials  0 running  0 stopped early" in output, output
    assert "failed" not in output, output
    (study,) = (tmp_path / "driver" / "work" / "runs").glob("*/study.json")
    trials = json.loads(nodes.ser("studies", "show", study.parent.name, "--json").communicate()[0])["trials"]
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    assert list(study.parent.glob("tune-*/*/error.txt")), "a trial was lost with the node"
    assert not list((tmp_path / "other").rglob("runs")), "only the driver writes results"
    assert not (tmp_path / "driver" / "user" / ".ray").exists(), "no other token is written"
