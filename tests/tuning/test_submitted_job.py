"""Jobs on a cluster with a token: they register what the command registers, and their folders stay."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPACE = """
role: student
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 2, train.batch_size: 16}
space:
  optimizer.lr: {loguniform: [1.0e-3, 1.0e-2]}
budget: {trials: 2}
confirm: {trials: 1, seeds: 1}
"""
TUNE = ["tune", "mine.yaml", "--corpus"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Guarded:
    """A cluster that asks for a token, and the client's side of it."""

    folder: Path
    port: int
    dashboard: int
    agent: int
    client: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def environment(self, home: str) -> dict[str, str]:
        own = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        places = {"HOME": str(self.folder / "user"), "SER_HOME": str(self.folder / home)}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}
        inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
        return inherited | own | places | token | {"RAY_USAGE_STATS_ENABLED": "0"}

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        (self.folder / "token").write_text("0123456789abcdef" * 4)
        (self.folder / "token").chmod(0o600)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--head", "--port", str(self.port)]
        command += ["--num-cpus", "2", "--node-ip-address", "127.0.0.1", "--dashboard-port", str(self.dashboard)]
        command += ["--ray-client-server-port", str(self.client), "--dashboard-agent-listen-port", str(self.agent)]
        command += ["--temp-dir", f"/tmp/ser-{os.getpid()}-job"]  # names of sockets are short
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        head = subprocess.Popen(command, env=self.environment("head"), **quiet)
        try:
            deadline = time.monotonic() + 60
            while not answers(self.dashboard):
                assert time.monotonic() < deadline, "no dashboard in a minute"
                time.sleep(0.2)
            yield
        finally:
            head.terminate()
            head.wait(60)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the client's side, which has a `SER_HOME` of its own."""
        shown = {"capture_output": True, "text": True, "timeout": 180}
        return subprocess.run([sys.executable, *words], cwd=self.folder, env=self.environment("here"), **shown)

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        main = "from ser_platform.cli import main; main()"
        return self.run("-c", main, "submit", "--json", "--name", "nightly", "--address", self.address, *words)

    def submit_plainly(self, *words: str) -> subprocess.CompletedProcess[str]:
        job = ["--working-dir", ".", "--submission-id", "plain", "--address", self.address, "--", "python", *words]
        return self.run("-m", "ray.scripts.scripts", "job", "submit", *job)


def test_a_job_on_a_guarded_cluster_registers_what_the_command_registers(tone_corpus: Path, tmp_path: Path) -> None:
    cluster = Guarded(tmp_path, *free_ports(4))
    (tmp_path / "mine.yaml").write_text(SPACE)
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    jobs = tmp_path / "head" / "jobs"
    with cluster.up():
        ended = cluster.submit(*TUNE, str(tone_corpus))
        again = cluster.submit("tune", "--resume")
        plain = cluster.submit_plainly("jobs/tune.py", *TUNE[1:], str(tone_corpus))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "registered ser-student version 1" in ended.stderr
    told = json.loads(ended.stdout)
    assert (told["name"], told["exit_code"]) == ("nightly", 0)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "the last tuning is finished" in again.stderr, "the job of the same name has found what the first has left"
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "registered ser-student version 1" in plain.stdout
    for name in ("nightly", "plain"):
        assert (jobs / name / "mlflow.db").exists()
        assert list((jobs / name / "runs").glob("*/study.json"))
    assert not (tmp_path / "here").exists(), "jobs run on the cluster"


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as found:
        sockets = [found.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
