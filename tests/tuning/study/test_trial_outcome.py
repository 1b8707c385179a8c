"""The outcome of a trial is a stored field; trials of version 0.1, which have only a sentence, can be read."""

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from ser_platform.errors import WorkFailed
from ser_platform.tuning.report.study_report import StudyReport
from ser_platform.tuning.search_space.yaml_file import read_space
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome, read_outcome
from tests.tuning.study_folders import create_study_folder

# The trial's state in Optuna, user attributes as version 0.1 wrote them, and the outcome.
RECORDS_OF_0_1: list[tuple[TrialState, dict[str, Any], Outcome]] = [
    (TrialState.COMPLETE, {"parameters": 1337, "state": "complete"}, Outcome.COMPLETE),
    (TrialState.PRUNED, {"parameters": 1337, "state": "pruned"}, Outcome.PRUNED),
    (TrialState.FAIL, {"parameters": 1337, "state": "failed", "reason": "Diverged: loss is nan"}, Outcome.FAILED),
    (TrialState.COMPLETE, {"state": "same as 0"}, Outcome.DUPLICATE),
    (TrialState.FAIL, {"state": "same as 12"}, Outcome.DUPLICATE),
    (TrialState.PRUNED, {"state": "over the limit"}, Outcome.OVER_LIMIT),
    (
        TrialState.PRUNED,
        {"state": "contradicts itself: data.min_seconds 3.0 is above data.max_seconds 2.0"},
        Outcome.CONTRADICTORY,
    ),
    (TrialState.RUNNING, {"parameters": 1337}, Outcome.RUNNING),
    (TrialState.WAITING, {}, Outcome.WAITING),
    (TrialState.COMPLETE, {"from": "earlier-study/3"}, Outcome.COMPLETE),
]


def make_trial(state: TrialState, attributes: dict[str, Any]) -> FrozenTrial:
    return create_trial(state=state, value=0.5 if state == TrialState.COMPLETE else None, user_attrs=attributes)


@pytest.mark.parametrize(("state", "attributes", "outcome"), RECORDS_OF_0_1)
def test_a_record_of_version_0_1_has_its_outcome(
    state: TrialState, attributes: dict[str, Any], outcome: Outcome
) -> None:
    assert read_outcome(make_trial(state, attributes)) == outcome


def test_the_field_counts_and_not_the_sentence_beside_it() -> None:
    trial = make_trial(TrialState.PRUNED, {"outcome": "over_limit", "state": "same as 3"})
    assert read_outcome(trial) == Outcome.OVER_LIMIT


@pytest.mark.parametrize("attributes", [{"outcome": "vanished", "state": "complete"}, {"state": "vanished"}])
def test_an_outcome_of_another_version_is_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(WorkFailed, match="outcome 'vanished'; this version reads: waiting, running, complete"):
        read_outcome(make_trial(TrialState.COMPLETE, attributes))


@pytest.fixture
def old_study() -> StudyFolder:
    """A study with the records of version 0.1."""
    folder = create_study_folder("made", role="student", corpus="made")
    study = folder.open_study(optuna.samplers.RandomSampler(seed=0))
    for state, attributes, _ in RECORDS_OF_0_1:
        study.add_trial(make_trial(state, attributes))
    return folder


def test_a_report_counts_the_records_of_version_0_1(old_study: StudyFolder) -> None:
    assert StudyReport.read(old_study).state_counts == {
        "complete": 2,
        "pruned": 1,
        "failed": 1,
        "seen before": 2,
        "over a limit": 1,
        "contradictory": 1,
        "running": 1,
        "waiting": 1,
    }


class SilentTracker:
    def start_trial(self, *_: Any) -> None: ...

    def log_epoch(self, *_: Any) -> None: ...

    def end_trial(self, *_: Any) -> None: ...

    def is_run_whole(self, number: int) -> bool:
        return True


def test_a_recorder_reads_the_trials_of_version_0_1(old_study: StudyFolder, tmp_path: Any) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("role: student\nspace: {optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}}\nbudget: {trials: 6}\n")
    recorder = StudyRecorder(read_space(path), old_study.open_study(), 4, SilentTracker())
    assert recorder.untrained_counts == Counter({Outcome.DUPLICATE: 2, Outcome.OVER_LIMIT: 1, Outcome.CONTRADICTORY: 1})
    assert recorder.state_counts == {"complete": 1, "pruned": 1, "failed": 1, "running": 1}
    assert recorder.records[2].failure_reason == "Diverged: loss is nan"
