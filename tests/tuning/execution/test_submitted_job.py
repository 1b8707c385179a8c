"""Jobs on a cluster with a token register the same models as the command, and their folders remain."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tuning.nodes import free_ports, ray_node, wait_for

ROOT = Path(__file__).resolve().parents[3]
SPACE = """
role: student
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 2, train.batch_size: 16}
space:
  optimizer.lr: {loguniform: [1.0e-3, 1.0e-2]}
budget: {trials: 2}
confirm: {trials: 1, seeds: 1}
"""
TUNE = ["tune", "mine.yaml", "--corpus"]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Guarded:
    """A cluster that requires a token, and its client."""

    folder: Path
    port: int
    dashboard: int
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
        words = ["--head", "--num-cpus", "2", "--port", str(self.port), "--dashboard-port", str(self.dashboard)]
        words += ["--ray-client-server-port", str(self.client)]
        with ray_node(self.folder, self.environment("head"), *words, port=self.dashboard):
            yield

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


def test_a_job_on_a_cluster_with_a_token_registers_the_models_of_the_command(tone_corpus: Path, tmp_path: Path) -> None:
    cluster = Guarded(tmp_path, *free_ports(3))
    (tmp_path / "mine.yaml").write_text(SPACE)
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    jobs = tmp_path / "head" / "jobs"
    with cluster.up(), ThreadPoolExecutor() as pool:
        first = pool.submit(cluster.submit, *TUNE, str(tone_corpus))
        wait_for((jobs / "nightly").exists)  # Ray's command does not wait for a cluster that is starting
        beside = pool.submit(cluster.submit_plainly, "jobs/tune.py", *TUNE[1:], str(tone_corpus))
        ended = first.result()
        again = cluster.submit("tune", "--resume")
        plain = beside.result()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "registered ser-student version 1" in ended.stderr
    content = json.loads(ended.stdout)
    assert (content["name"], content["exit_code"]) == ("nightly", 0)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "the last tuning is finished" in again.stderr, "the job of the same name continues in its folder"
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "registered ser-student version 1" in plain.stdout
    for name in ("nightly", "plain"):
        assert (jobs / name / "mlflow.db").exists()
        assert list((jobs / name / "runs").glob("*/study.json"))
    assert not (tmp_path / "here").exists(), "jobs run on the cluster"
