"""Each private API of Optuna that is used exists and works as before; a failure names it."""

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from ser_platform.tuning.optuna_compat import (
    end_trial,
    find_trial_id,
    get_fixed_params,
    is_result_operation,
    set_constraint,
    set_intermediate_value,
    split_best_trials,
)
from ser_platform.tuning.study.storage import JournalFile


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(sampler=RandomSampler(seed=0), direction="maximize")


def test_lines_of_the_journal_with_results_are_recognised(tmp_path: Path) -> None:
    logs: list[dict[str, object]] = []

    class Listening(JournalFile):
        def append_logs(self, lines: list[dict[str, object]]) -> None:
            logs.extend(lines)
            super().append_logs(lines)

    study = optuna.create_study(storage=JournalStorage(Listening(tmp_path / "journal.log")))
    trial = study.ask()
    trial.set_user_attr("name", 1)
    assert not any(map(is_result_operation, logs)), "JournalOperation or op_code has changed"
    trial.report(0.5, 1)
    assert is_result_operation(logs[-1]), "JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE has changed"
    study.tell(trial, 0.5)
    assert is_result_operation(logs[-1]), "JournalOperation.SET_TRIAL_STATE_VALUES has changed"


def test_the_best_trials_are_those_of_the_highest_value(study: optuna.Study) -> None:
    for value in (0.1, 0.9, 0.5):
        study.tell(study.ask(), value)
    assert [trial.number for trial in split_best_trials(study, study.get_trials(), 2)] == [1, 2]


def test_an_enqueued_trial_has_its_fixed_parameters_while_it_is_drawn(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.25})
    study.ask()
    assert get_fixed_params(study.get_trials()[0]) == {"x": 0.25}, "the system attribute fixed_params has changed"


def test_a_trial_is_found_by_its_number(study: optuna.Study) -> None:
    study.ask()
    second = study.ask()
    assert find_trial_id(study, second.number) == second._trial_id


def test_a_constraint_is_written_as_optuna_writes_it(study: optuna.Study) -> None:
    ours, theirs = study.ask(), study.ask()
    set_constraint(study, ours.number, "forward_ms", 0.5)
    theirs.set_constraint("forward_ms", 0.5)
    stored = study.get_trials()
    assert stored[ours.number].system_attrs == stored[theirs.number].system_attrs, "constraints:METRIC has changed"
    assert stored[ours.number].constraints == {"forward_ms": 0.5}


def test_a_trial_is_written_without_its_object(study: optuna.Study) -> None:
    number = study.ask().number
    set_intermediate_value(study, number, 3, 0.75)
    end_trial(study, number, {"outcome": "complete"}, TrialState.COMPLETE, [0.75])
    (stored,) = study.get_trials()
    assert stored.intermediate_values == {3: 0.75}
    assert (stored.state, stored.value, stored.user_attrs) == (TrialState.COMPLETE, 0.75, {"outcome": "complete"})
