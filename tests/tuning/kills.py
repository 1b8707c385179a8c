"""Runs `ser` in processes that are killed at the n-th write of a kind, and checks the study afterwards.

As a script it runs `ser` in forks of one process that has imported the modules of `ser tune`, which takes 10 s.
"""

import atexit
import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOMENTS = ("journal", "mlflow", "registry", "file")
MLFLOW = ("create_run", "log_batch", "set_terminated", "update_run", "set_tag")
REGISTRY = ("log_artifacts", "create_registered_model", "create_model_version", "set_registered_model_alias")
OUTPUTS = ("stdout.txt", "stderr.txt")  # in the working directory of a `ser`
TRIALS = 6
SPACE = """
role: teacher
base: {train.epochs: 3, model.name: bilstm, model.hidden_size: 8, train.batch_size: 4}
space:
  optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}
confirm: {trials: 1, seeds: 1}
scheduler: {grace_epochs: 1, reduction_factor: 2}
"""


@dataclass(frozen=True)
class Ended:
    """The exit code of a `ser`, negative if a signal killed it, and its output."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Forge:
    """Runs `ser` in forks of one process; ends it at the end of a `with` block."""

    def __init__(self, home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
        # Ray would write a token under the real home folder and so change a later `ray start`.
        self.env = kept | {"SER_HOME": str(home), "RAY_AUTH_MODE": "disabled"}

    def __enter__(self) -> "Forge":
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self,
        folder: Path,
        words: Sequence[str],
        moment: str = "",
        number: int = 0,
        *,
        alone: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"folder": str(folder), "words": words, "moment": moment, "number": number, "alone": alone}
        self._process.stdin.write(json.dumps(order | {"environment": {**(environment or self.env)}}) + "\n")
        self._process.stdin.flush()
        try:
            code = int(self._process.stdout.readline())
        except BaseException:  # a timeout of the test: the next run must not read this exit code
            os.killpg(self._process.pid, signal.SIGKILL)
            self.__exit__()
            self.__enter__()
            raise
        return Ended(code, *((folder / name).read_text() for name in OUTPUTS))


class Workplace:
    """A working directory in which `ser` runs; with `alone` it trains in its own process, without Ray."""

    def __init__(self, folder: Path, corpus: Path, forge: Forge, *, alone: bool = False) -> None:
        self.folder, self.forge, self.alone = folder, forge, alone
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(SPACE)
        self.tune = ["tune", "tiny.yaml", "--corpus", str(corpus), "--trials", str(TRIALS)]

    def run(self, *words: str) -> Ended:
        self.last = self.forge.run(self.folder, words, alone=self.alone)
        return self.last

    def run_until_killed(self, moment: str, number: int, *words: str) -> bool:
        """Run `ser` until it kills itself at a moment; return whether the moment came."""
        self.last = self.forge.run(self.folder, words, moment, number, alone=self.alone)
        return self.last.code == -signal.SIGKILL

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a `ser` in its own process group."""
        command = [sys.executable, "-c", "from ser_platform.cli import main; main()", *words]
        output = (self.folder / "begun.txt").open("w")
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.forge.env,
            stdout=output,
            stderr=output,
            start_new_session=True,
            text=True,
        )

    def resume(self) -> str:
        """Resume until nothing is left to do; return the output.

        A tuning that was killed before its plan was written is started again.
        """
        ended = self.run("tune", "--resume")
        if ended.code == 2 and "nothing to resume here" in ended.output:
            ended = self.run(*self.tune)
        if "the last tuning is finished" not in ended.output:
            assert ended.code == 0, ended.output
        return ended.output

    @property
    def output(self) -> str:
        """The output of the last `ser`."""
        return self.last.output

    @property
    def study_folder(self) -> Path:
        (path,) = self.folder.glob("runs/*/study.json")
        return path.parent


def assert_nothing_is_lost(place: Workplace, trials: int = TRIALS, versions: int = 1) -> None:
    """Check that a killed and resumed study is complete and has no duplicates."""
    from mlflow import MlflowClient

    from ser_platform.tuning.schedulers.rules import make_stopping_rule
    from ser_platform.tuning.schedulers.rung_store import RungStore
    from ser_platform.tuning.study.recorder import collect_score_histories
    from ser_platform.tuning.study.request import read_request
    from ser_platform.tuning.study.study_folder import StudyFolder
    from tests.tuning.rungs import find_disagreements

    folder = StudyFolder(place.study_folder)
    assert folder.summary["state"] == "finished"
    kept = folder.read_trials()
    assert [trial.number for trial in kept] == list(range(trials))
    assert {trial.state.name for trial in kept} <= {"COMPLETE", "PRUNED"}, [trial.state for trial in kept]
    space = read_request(folder).read_space()
    assert (
        find_disagreements(
            RungStore(folder.path).read(), make_stopping_rule(space), collect_score_histories(space, kept)
        )
        == []
    )
    client = MlflowClient(f"sqlite:///{place.folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()], max_results=1000)
    assert sorted(run.data.tags.get("trial", "parent") for run in runs) == [*map(str, range(trials)), "parent"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run.info.run_id for run in runs if "trial" not in run.data.tags)
    assert "report/index.html" in {file.path for file in client.list_artifacts(parent, "report")}
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
        json.loads(path.read_text())  # deeper files are Tune's own, which are not read


def assert_runs_are_closed(place: Workplace) -> None:
    """Check that no run is left open."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()], max_results=1000)
    assert "RUNNING" not in {run.info.status for run in runs}


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str, number: int) -> None:
    """Make this process kill itself at the `number`-th write of a kind: before, within or after the write."""
    from mlflow import MlflowClient

    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == number

    def kill_before_answer(owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            answer = original(*given, **named)
            if due():
                _kill_this_process()
            return answer

        setattr(owner, name, call)

    if moment == "journal":
        from ser_platform.tuning.study.storage import JournalFile

        original = JournalFile.append_logs

        def append(self: Any, logs: list[dict[str, Any]]) -> None:
            if due():
                with self.path.open("a") as file:
                    file.write(json.dumps(logs[0])[:20])
                _kill_this_process()
            original(self, logs)

        JournalFile.append_logs = append  # type: ignore[method-assign]
    elif moment == "file":
        replace = Path.replace

        def half(self: Path, target: Any) -> Any:
            if due():
                _kill_this_process()
            return replace(self, target)

        Path.replace = half  # type: ignore[method-assign]
    else:
        for name in MLFLOW if moment == "mlflow" else REGISTRY:
            kill_before_answer(MlflowClient, name)


def _alone() -> None:
    """Make this process train without workers; it writes the same files."""
    from ser_platform.tuning.execution import fit_pool
    from ser_platform.tuning.execution.cluster import Cluster, NodeResources
    from ser_platform.tuning.execution.fit_job import (
        FitJob,
        TrialData,
        TrialJob,
        fit,
        train_trial_epochs,
    )
    from ser_platform.tuning.study.recorder import StudyRecorder
    from ser_platform.workflows import run_study, tune

    @contextlib.contextmanager
    def here() -> Iterator[Cluster]:
        yield Cluster(1, 0.0, 1, (NodeResources(1),))

    def search(recorder: StudyRecorder, tasks: Sequence[TrialData], *_: Any) -> None:
        while (record := recorder.ask()) is not None:
            for epoch in train_trial_epochs(record.settings, TrialJob(tuple(tasks))):
                if recorder.record_epoch(record.number, epoch):
                    break
            recorder.finish(record.number)

    def fit_all(
        jobs: Sequence[FitJob], _: Any, __: Any, on_result: Callable[[int, Any], None] = lambda number, result: None
    ) -> list[Any]:
        fits = []
        for number, job in enumerate(jobs):
            fits.append(fit(job))
            on_result(number, fits[-1])
        return fits

    for module, replacement in ((tune, here), (run_study, search), (fit_pool, fit_all)):
        setattr(module, {"here": "connect_cluster"}.get(replacement.__name__, replacement.__name__), replacement)


def _serve() -> None:
    """Run `ser` in a fork for each line of stdin; print its exit code."""
    import torch
    from mlflow.utils import requirements_utils

    import ser_platform.workflows.tune  # noqa: F401 - what all forks need
    from ser_platform.cli import main

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports its compiler
    requirements_utils._init_modules_to_packages_map()  # 3 s of each registration

    gc.freeze()  # a collection in a fork would copy every page that it reads
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        for stream, name in enumerate(OUTPUTS, start=1):
            with Path(name).open("w") as output:
                os.dup2(output.fileno(), stream)
        if order["alone"]:
            _alone()
        if order["moment"]:
            _arm(order["moment"], order["number"])
        sys.argv = ["ser", *order["words"]]
        try:
            main()
        except SystemExit as ended:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(ended.code or 0))  # freeing the imported modules takes a fork 20 s
        return


if __name__ == "__main__":
    _serve()
