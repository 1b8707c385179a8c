"""What version 0.1.0 wrote still loads: studies, registered versions, bundles, teacher outputs, and what was cut off.

The files are those of `tests/fixtures/version_0_1`, with what the version itself printed about them. Only the command
line is used, so that the tests do not depend on how the package is divided.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from ser_platform.cli import app
from tests.fixtures.version_0_1.workplace import DATABASE, ELSEWHERE, HOME, PRINTED, ROOT, copy, unpack

ANSWERS = {" ".join(each["words"]): each["printed"] for each in json.loads(PRINTED.read_text(encoding="utf-8"))}
# Sentences, which may be reworded; the time of a file, shown in local time; measurements.
FREE = {"words", "caveat", "last_used", "latency_p95_ms", "latency_cpu_ms"}
CLOSE = 1e-5


@dataclass(frozen=True)
class Place:
    """A copy of the working folder; the working directory of this process."""

    folder: Path

    def run(self, *words: str) -> str:
        """Run a command that is to succeed; return what it prints."""
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    def ask(self, *words: str) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(self.run(*words, "--json").replace(str(self.folder), ROOT))

    def refusal(self, *words: str) -> str:
        """Return the message of a command that is to be refused."""
        done = CliRunner().invoke(app, words)
        assert done.exit_code != 0
        return str(done.exception)

    def study(self, space: str) -> dict[str, Any]:
        """Return the one study of a space."""
        (name,) = (each["name"] for each in self.ask("studies", "list") if each["name"].startswith(f"{space}-ravdess-"))
        return self.ask("studies", "show", name)

    def versions(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the versions of a registered model, by number."""
        return {each["version"]: each for each in self.ask("models", "list") if each["name"] == name}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder / DATABASE}")

    def runs(self, study: str) -> dict[int, str]:
        """Return the runs of a study's trials, by number."""
        experiment = self.client.get_experiment_by_name("ser-ravdess")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], f"tags.study = '{study}'")
        runs = {int(run.data.tags["trial"]): run.info.run_id for run in found if "trial" in run.data.tags}
        assert len(runs) == len(found) - 1, "one of each trial, and the parent"
        return runs

    @property
    def teacher_outputs(self) -> set[str]:
        """The teacher outputs that are kept, by their keys."""
        return {path.name for path in (self.folder / HOME / "teacher_outputs").iterdir()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder as it was left. For copying alone."""
    return unpack(tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def read_alone(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(unpacked, tmp_path_factory.mktemp("written") / "place")


@pytest.fixture
def kept(read_alone: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working folder that tests share, for commands that only read."""
    return enter(read_alone, monkeypatch)


@pytest.fixture
def place(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working folder of the test's own."""
    return enter(copy(unpacked, tmp_path / "place"), monkeypatch)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Make the folder the working directory, with `SER_HOME` in it and no other variable of the platform set."""
    for name in ELSEWHERE:
        monkeypatch.setenv(name, "")  # so that what a command sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("SER_HOME", str(folder / HOME))
    monkeypatch.chdir(folder)
    return Place(folder)


def assert_kept(now: Any, before: Any, where: str) -> None:
    """Check that an answer still has all that it had; more keys are allowed."""
    if isinstance(before, Mapping):
        assert before.keys() <= now.keys(), where
        for name in before.keys() - FREE:
            assert_kept(now[name], before[name], f"{where}.{name}")
    elif isinstance(before, list):
        assert len(now) == len(before), where
        for number, (one, other) in enumerate(zip(now, before, strict=True)):
            assert_kept(one, other, f"{where}[{number}]")
    elif isinstance(before, float):
        assert now == pytest.approx(before, abs=CLOSE, nan_ok=True), where
    else:
        assert now == before, where


def name_without_clips(command: str) -> str:
    return " ".join(word for word in command.split(" ") if not word.endswith(".wav"))


@pytest.mark.parametrize("command", ANSWERS, ids=name_without_clips)
def test_a_command_answers_as_it_did(kept: Place, command: str) -> None:
    assert_kept(kept.ask(*command.split(" ")[:-1]), ANSWERS[command], "")


def predictions(answers: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [{"emotion": each["emotion"], "probabilities": each["probabilities"]} for each in answers]


def old_predictions(model: str) -> tuple[list[str], list[Any]]:
    """Return clips, and what version 0.1.0 predicted for them with a model."""
    (command,) = (each for each in ANSWERS if each.startswith("predict ") and f"--model {model} " in each)
    return [word for word in command.split(" ") if word.endswith(".wav")], predictions(ANSWERS[command])


def test_a_registered_version_is_loaded_by_mlflow_under_the_module_that_it_names(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.folder / DATABASE}")
    clips, expected = old_predictions("ser-student/1")
    model = mlflow.pyfunc.load_model("models:/ser-student/1")
    assert model.loader_module == "ser_platform.tracking.pyfunc"
    assert_kept(model.predict(pd.DataFrame({"path": [str(place.folder / clip) for clip in clips]})), expected, "pyfunc")


def test_a_candidate_is_promoted_and_predicts_as_champion(place: Place) -> None:
    (candidate,) = (n for n, model in place.versions("ser-student").items() if "candidate" in model["aliases"])
    place.run("models", "promote", "ser-student")
    assert "champion" in place.versions("ser-student")[candidate]["aliases"]
    clips, expected = old_predictions(f"ser-student/{candidate}")
    answers = place.ask("predict", *clips)
    assert {(each["model"], each["version"]) for each in answers} == {("ser-student", candidate)}
    assert_kept(predictions(answers), expected, "champion")


def test_the_champion_is_rolled_back_to_the_one_before(place: Place) -> None:
    before = place.versions("ser-teacher")
    assert ("previous" in before["1"]["aliases"], "champion" in before["2"]["aliases"]) == (True, True)
    place.run("models", "rollback", "ser-teacher")
    assert "champion" in place.versions("ser-teacher")["1"]["aliases"]
    clips, expected = old_predictions("ser-teacher/1")
    assert_kept(predictions(place.ask("predict", *clips, "--model", "ser-teacher")), expected, "champion")


def test_a_training_that_was_killed_goes_on_where_it_was(place: Place) -> None:
    (folder,) = place.folder.glob("runs/train-student-*")
    name = folder.name
    before = json.loads((folder / "fold-1" / "epochs.json").read_text(encoding="utf-8"))
    models = place.versions("ser-student")
    place.run("train", "--resume")
    (run,) = place.runs(name).values()
    history = sorted(place.client.get_metric_history(run, "train_loss"), key=lambda metric: metric.step)
    assert [metric.step for metric in history] == list(range(1, 31)), "each epoch once"
    assert [metric.value for metric in history[: len(before)]] == pytest.approx([e["train_loss"] for e in before])
    (version,) = place.versions("ser-student").keys() - models.keys()
    made = place.ask("models", "show", f"ser-student/{version}")
    assert made["study"] == name
    test_reads = [int(place.ask("models", "show", f"ser-student/{number}")["tags"]["test_looks"]) for number in models]
    assert int(made["tags"]["test_looks"]) > max(test_reads), "the ledger goes on"
    assert "nothing to resume" in place.refusal("train", "--resume")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_tuning_that_was_killed_goes_on_and_a_finished_study_is_extended(place: Place) -> None:
    names = {each["name"] for each in place.ask("studies", "list")}
    before, models, outputs = place.study("killed"), place.versions("ser-student"), place.teacher_outputs
    runs = place.runs(before["name"])
    place.run("tune", "--resume")
    after = place.study("killed")
    assert_goes_on(after, before)
    assert len(after["trials"]) == 5
    assert {trial["number"]: trial["run_id"] for trial in after["trials"]} == place.runs(before["name"])
    assert runs.items() <= place.runs(before["name"]).items()
    made = place.versions("ser-student")
    assert [made[number]["study"] for number in made.keys() - models.keys()] == [before["name"]]
    assert place.teacher_outputs == outputs, "teacher outputs are found under their old keys"
    assert "nothing to resume" in place.refusal("tune", "--resume")

    before = place.study("teacher")
    place.run("studies", "extend", before["name"], "--trials", "1")
    after = place.study("teacher")
    assert_goes_on(after, before)
    assert len(after["trials"]) == len(before["trials"]) + 1
    assert {each["name"] for each in place.ask("studies", "list")} == names


def assert_goes_on(after: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check that a study is finished with the trials that it had: those that had ended as they were, all now ended."""
    trials = {trial["number"]: trial for trial in after["trials"]}
    for trial in before["trials"]:
        now, is_cut_off = trials[trial["number"]], trial["state"] == "running"
        assert now["params"] == trial["params"]
        for name in () if is_cut_off else ("state", "metrics"):
            assert_kept(now[name], trial[name], f"trial {trial['number']}.{name}")
    assert {trial["state"] for trial in trials.values()} <= {"complete", "pruned"}
    assert after["state"] == "finished"
