"""The recorder of a study, with given scores in place of training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ser_platform.settings import Settings
from ser_platform.tuning.samplers.factory import make_sampler
from ser_platform.tuning.schedulers.rules import make_stopping_rule
from ser_platform.tuning.schedulers.rung_store import RungStore
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import read_space
from ser_platform.tuning.study.recorder import StudyRecorder, collect_score_histories
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome
from tests.tuning.rungs import find_disagreements
from tests.tuning.study_folders import create_study_folder

SPACE = """
role: student
base: {train.epochs: 9, model.name: bilstm}
space:
  model.hidden_size: {choice: [8, 256, 512]}
  optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}
constraints: [{metric: parameters, at_most: 100000}]
budget: {trials: 6}
scheduler: {grace_epochs: 1, reduction_factor: 3}
"""


class Listener:
    """A tracker that records its calls."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def start_trial(self, number: int, settings: Settings) -> None:
        self.events.append(("start", number))

    def log_epoch(self, number: int, result: Mapping[str, float]) -> None:
        self.events.append(("epoch", number))

    def end_trial(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None:
        self.events.append((state, number))

    def is_run_whole(self, number: int) -> bool:
        return True


@pytest.fixture
def space(tmp_path: Path) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return read_space(path)


@pytest.fixture
def folder() -> StudyFolder:
    return create_study_folder("made", role="student", corpus="made")


def open_recorder(space: Space, folder: StudyFolder, listener: Listener | None = None) -> StudyRecorder:
    return StudyRecorder(space, folder.open_study(optuna.samplers.RandomSampler(seed=0)), 4, listener or Listener())


def result(epoch: int, score: float) -> dict[str, float]:
    losses = dict.fromkeys(("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1"), 0.5)
    return losses | {"epoch": epoch, "best_dev_uar": score, "best_epoch": epoch, "seconds": 0.1}


def test_a_complete_trial_is_stored_with_its_best_score(space: Space, folder: StudyFolder) -> None:
    listener = Listener()
    recorder = open_recorder(space, folder, listener)
    record = recorder.ask()
    assert record is not None
    recorder.record_epoch(record.number, result(1, 0.4))
    recorder.finish(record.number)
    stored = folder.read_trials()[record.number]
    assert stored.state == TrialState.COMPLETE
    assert stored.value == pytest.approx(0.4)
    assert listener.events == [("start", record.number), ("epoch", record.number), ("complete", record.number)]


def test_a_stopped_trial_is_pruned_and_keeps_its_intermediate_values(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(space, folder)
    good, bad = recorder.ask(), recorder.ask()
    assert good is not None
    assert bad is not None
    assert not recorder.record_epoch(good.number, result(1, 0.6))
    assert recorder.record_epoch(bad.number, result(1, 0.2))
    recorder.finish(bad.number)
    stored = folder.read_trials()[bad.number]
    assert stored.state == TrialState.PRUNED
    assert stored.intermediate_values == {1: 0.2}


def test_a_failed_trial_is_stored_with_its_reason(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(space, folder)
    record = recorder.ask()
    assert record is not None
    recorder.finish(record.number, failure="Diverged: loss is nan in epoch 1")
    recorder.finish(record.number)  # Tune can report it twice
    stored = folder.read_trials()[record.number]
    assert stored.state == TrialState.FAIL
    assert stored.user_attrs["reason"] == "Diverged: loss is nan in epoch 1"


def test_a_configuration_over_the_limit_costs_no_trial(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(space, folder)
    records = [recorder.ask() for _ in range(6)]
    assert recorder.ask() is None, "the budget is 6 trained trials"
    assert all(record is not None and record.n_parameters <= 100_000 for record in records)
    stored = [trial.user_attrs.get("outcome") for trial in folder.read_trials()]
    assert recorder.untrained_counts[Outcome.OVER_LIMIT] == stored.count("over_limit") > 0


def test_a_configuration_seen_before_is_not_trained_again(space: Space, folder: StudyFolder) -> None:
    finite = replace(space, axes=tuple(axis for axis in space.axes if axis.name == "model.hidden_size"), constraints=())
    recorder = open_recorder(finite, folder)
    for _ in range(3):
        record = recorder.ask()
        assert record is not None
        recorder.record_epoch(record.number, result(1, 0.5))
        recorder.finish(record.number)
    assert recorder.ask() is None  # three widths, all tried
    assert recorder.is_exhausted
    assert len(recorder.records) == 3
    assert recorder.untrained_counts[Outcome.DUPLICATE] == len(folder.read_trials()) - 3
    stored = [trial.user_attrs for trial in folder.read_trials()]
    twins = [attributes["twin"] for attributes in stored if attributes["outcome"] == "duplicate"]
    assert twins and set(twins) <= recorder.records.keys()


def test_a_study_killed_in_a_trial_runs_it_again_under_its_number(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(space, folder)
    done, running = recorder.ask(), recorder.ask()
    assert done is not None
    assert running is not None
    recorder.record_epoch(done.number, result(1, 0.6))
    recorder.finish(done.number)
    recorder.record_epoch(running.number, result(1, 0.5))
    again = open_recorder(space, folder)  # as after a kill: only the journal remains
    restarted = again.ask()
    assert restarted is not None
    assert restarted.number == running.number
    assert restarted.settings == running.settings
    assert again.records[done.number].state == "complete"
    for epoch in range(1, 4):
        again.record_epoch(running.number, result(epoch, 0.7))
    again.finish(running.number)
    assert folder.read_trials()[running.number].value == pytest.approx(0.7)
    while (record := again.ask()) is not None:
        again.finish(record.number, failure="not trained here")
    assert len(again.records) == space.budget.trials


def test_early_stopping_survives_a_kill(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(space, folder)
    record = recorder.ask()
    assert record is not None
    recorder.record_epoch(record.number, result(1, 0.9))
    recorder.finish(record.number)
    again = open_recorder(space, folder)
    later = again.ask()
    assert later is not None
    assert again.record_epoch(later.number, result(1, 0.3)), "the rung has 0.9"


def test_every_architecture_is_tried(space: Space, folder: StudyFolder, tmp_path: Path) -> None:
    path = tmp_path / "four.yaml"
    names = ["cnn_bilstm", "attention_bilstm", "bilstm", "lite_cnn"]
    axes = f"{{model.name: {{choice: {names}}}, seed: {{int: [0, 9]}}}}"
    path.write_text(f"role: student\nspace: {axes}\nbudget: {{trials: 4}}\n")
    recorder = open_recorder(read_space(path), folder)
    records = [recorder.ask() for _ in names]
    assert sorted(record.settings.model.name for record in records if record) == sorted(names)


def read_other_space(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    return read_space(path)


TWO_OBJECTIVES = """
role: student
base: {train.epochs: 3, model.name: bilstm}
space: {model.hidden_size: {choice: [8, 16, 32, 64]}}
objective: [{metric: dev_uar}, {metric: parameters}]
constraints: [{metric: forward_ms, at_most: 5}]
budget: {trials: 4, epochs: 4}
sampler: {name: grid}
scheduler: {name: none}
"""


def test_of_several_objectives_the_feasible_pareto_set_is_ordered_by_dev_uar(
    tmp_path: Path, folder: StudyFolder
) -> None:
    space = read_other_space(tmp_path, TWO_OBJECTIVES)
    study = folder.open_study(make_sampler(space, 0), ["maximize", "minimize"])
    recorder = StudyRecorder(space, study, 4, Listener())
    score_of, latency_of = {8: 0.5, 16: 0.4, 32: 0.7, 64: 0.9}, {8: 1, 16: 1, 32: 1, 64: 9}
    while (record := recorder.ask()) is not None:
        size = record.settings.model.hidden_size
        recorder.record_epoch(record.number, result(1, score_of[size]) | {"forward_ms": latency_of[size]})
        recorder.finish(record.number)
    assert [r.settings.model.hidden_size for r in recorder.rank_candidates()] == [32, 8], "16 is beaten, 64 too slow"
    stored = {trial.params["model.hidden_size"]: trial for trial in folder.read_trials()}
    assert stored[64].state == TrialState.COMPLETE
    assert stored[64].constraints["forward_ms"] == pytest.approx(4)
    assert stored[32].values == [0.7, recorder.rank_candidates()[0].n_parameters]
    assert {"dev_uar", "parameters", "forward_ms"} <= stored[32].user_attrs["metrics"].keys()


def test_no_new_trial_is_drawn_once_the_epochs_are_spent(space: Space, folder: StudyFolder) -> None:
    recorder = open_recorder(replace(space, budget=replace(space.budget, epochs=3)), folder)
    record = recorder.ask()
    assert record is not None
    for epoch in (1, 2, 3):
        recorder.record_epoch(record.number, result(epoch, 0.5))
    recorder.finish(record.number)
    assert recorder.ask() is None
    assert not recorder.is_exhausted


@pytest.mark.parametrize("reported", [{"best_dev_uar": float("nan")}, {}])
def test_a_trial_without_a_finite_score_has_failed(
    space: Space, folder: StudyFolder, reported: dict[str, float]
) -> None:
    recorder = open_recorder(space, folder)
    record = recorder.ask()
    assert record is not None
    if reported:
        recorder.record_epoch(record.number, result(1, 0.5) | reported)
    recorder.finish(record.number)
    assert folder.read_trials()[record.number].state == TrialState.FAIL
    assert record.failure_reason
    assert recorder.rank_candidates() == []


def test_a_trial_interrupted_while_it_was_drawn_is_drawn_under_its_number(space: Space, folder: StudyFolder) -> None:
    folder.open_study(optuna.samplers.RandomSampler(seed=0)).ask()
    record = open_recorder(replace(space, constraints=()), folder).ask()
    assert record is not None
    assert record.number == 0


def test_saved_rungs_agree_with_the_history(space: Space, folder: StudyFolder) -> None:
    study, saved = folder.open_study(optuna.samplers.RandomSampler(seed=0)), RungStore(folder.path)
    recorder = StudyRecorder(space, study, 4, Listener(), saved)
    for score in (0.4, 0.6):
        record = recorder.ask()
        assert record is not None
        recorder.record_epoch(record.number, result(1, score))
    StudyRecorder(space, folder.open_study(), 4, Listener(), saved)
    histories = list(collect_score_histories(space, folder.read_trials()))
    assert find_disagreements(saved.read(), make_stopping_rule(space), histories) == []
    assert sorted(saved.read()[1].values()) == [0.4, 0.6]
    assert find_disagreements({1: {0: 0.5}}, make_stopping_rule(space), histories)
