"""`ser` in processes that are killed: at the n-th write of a kind, or at a moment; and what must be true afterwards.

Run as a script it is a `ser` that kills itself: `python kills.py MOMENT N ARGUMENTS...`.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENTS = ("journal", "mlflow", "registry", "file")
MLFLOW = ("create_run", "log_batch", "set_terminated", "update_run", "set_tag")
REGISTRY = ("log_artifacts", "create_registered_model", "create_model_version", "set_registered_model_alias")
TRIALS = 6
SPACE = """
role: teacher
base: {train.epochs: 3, model.name: bilstm, model.hidden_size: 8, train.batch_size: 4}
space:
  optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}
confirm: {trials: 1, seeds: 1}
scheduler: {grace_epochs: 1, reduction_factor: 2}
"""


class Workplace:
    """A working directory in which `ser` runs as a user would run it."""

    def __init__(self, folder: Path, corpus: Path, home: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
        self.env = kept | {"SER_HOME": str(home), "RAY_AUTH_MODE": "disabled"}
        self.ser = [sys.executable, "-c", "from ser_platform.cli import main; main()"]
        (folder / "tiny.yaml").write_text(SPACE)
        self.tune = ["tune", "tiny.yaml", "--corpus", str(corpus), "--trials", str(TRIALS)]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ser, *words], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=200
        )

    def dying(self, moment: str, number: int, *words: str) -> int:
        """Run `ser` until it kills itself at a moment; return its exit code, 0 where the moment never came."""
        command = [sys.executable, __file__, moment, str(number), *words]
        with (self.folder / "killed.txt").open("a") as output:
            return subprocess.run(command, cwd=self.folder, env=self.env, stdout=output, stderr=output).returncode

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Begin a `ser` in a process group of its own."""
        output = (self.folder / "begun.txt").open("w")
        return subprocess.Popen(
            [*self.ser, *words], cwd=self.folder, env=self.env, stdout=output, stderr=output, start_new_session=True
        )

    def resume(self) -> str:
        """Go on until nothing is left to do; return what was said.

        A tuning that was killed before its plan was written is begun again, as its user would.
        """
        ended = self.run("tune", "--resume")
        if ended.returncode == 2 and "nothing to resume here" in ended.stderr:
            ended = self.run(*self.tune)
        if "the last tuning is finished" not in ended.stderr:
            assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @property
    def study(self) -> Path:
        (path,) = self.folder.glob("runs/*/study.json")
        return path.parent


def assert_nothing_is_lost(place: Workplace, trials: int = TRIALS, versions: int = 1) -> None:
    """Check a study that was killed and resumed against one that was not disturbed."""
    from mlflow import MlflowClient

    from ser_platform.tuning.book import histories
    from ser_platform.tuning.journal import StudyFolder
    from ser_platform.tuning.rungs import SavedRungs, disagreements
    from ser_platform.tuning.snapshot import request_of
    from ser_platform.tuning.stopping import make_stopping

    folder = StudyFolder(place.study)
    assert folder.summary["state"] == "finished"
    kept = folder.trials()
    assert [trial.number for trial in kept] == list(range(trials))
    assert {trial.state.name for trial in kept} <= {"COMPLETE", "PRUNED"}, [trial.state for trial in kept]
    space = request_of(folder).read()
    assert disagreements(SavedRungs(folder.path).read(), make_stopping(space), histories(space, kept)) == []
    client = MlflowClient(f"sqlite:///{place.folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()], max_results=1000)
    assert sorted(run.data.tags.get("trial", "parent") for run in runs) == [*map(str, range(trials)), "parent"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run.info.run_id for run in runs if "trial" not in run.data.tags)
    for run in (run for run in runs if "trial" in run.data.tags):
        trial = kept[int(run.data.tags["trial"])]
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.tags["state"] == trial.user_attrs["state"]
        assert run.data.params["model.hidden_size"] == "8"
        for name in ("train_loss", "dev_uar"):
            steps = sorted(metric.step for metric in client.get_metric_history(run.info.run_id, name))
            assert steps == sorted(trial.intermediate_values), f"{name} of trial {trial.number}"
    found = client.search_model_versions("name = 'ser-teacher'")
    assert len(found) == versions
    assert client.get_model_version_by_alias("ser-teacher", "candidate").run_id == parent
    halves = [path for path in place.folder.glob("runs/**/.*") if re.search(r"\.[0-9a-f]{32}\.", path.name)]
    assert halves == [], "half-written files"
    for path in (*place.folder.glob("runs/*.json"), *place.folder.glob("runs/*/*.json")):
        json.loads(path.read_text())  # deeper are files of Tune's own, which nothing reads


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str, number: int) -> None:
    """Have this process kill itself at the `number`-th write of a kind, which is left half done or unanswered."""
    from mlflow import MlflowClient

    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == number

    def answered_never(owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            answer = original(*given, **named)
            if due():
                _die()
            return answer

        setattr(owner, name, call)

    if moment == "journal":
        from optuna.storages.journal import JournalFileBackend

        original = JournalFileBackend.append_logs

        def append(self: Any, logs: list[dict[str, Any]]) -> None:
            if due():
                with Path(self._file_path).open("a") as file:
                    file.write(json.dumps(logs[0])[:20])
                _die()
            original(self, logs)

        JournalFileBackend.append_logs = append  # type: ignore[method-assign]
    elif moment == "file":
        replace = Path.replace

        def half(self: Path, target: Any) -> Any:
            if due():
                _die()
            return replace(self, target)

        Path.replace = half  # type: ignore[method-assign]
    else:
        for name in MLFLOW if moment == "mlflow" else REGISTRY:
            answered_never(MlflowClient, name)


if __name__ == "__main__":
    from ser_platform.cli import main

    _arm(sys.argv[1], int(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    main()
