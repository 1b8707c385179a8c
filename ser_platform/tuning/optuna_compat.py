"""All private APIs of Optuna that tuning uses: check them when Optuna is upgraded.

They were read in Optuna 5.0.0; `pyproject.toml` excludes versions in which they were not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.samplers._tpe.sampler import _split_trials
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

RESULT_OPERATIONS = frozenset({JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE, JournalOperation.SET_TRIAL_STATE_VALUES})


def is_result_operation(log: Mapping[str, Any]) -> bool:
    """Return whether a line of the journal contains a training result.

    Optuna 5.0.0: `optuna.storages.journal._storage.JournalOperation`, the key `op_code` of a line.
    """
    return log["op_code"] in RESULT_OPERATIONS


def split_best_trials(study: Study, trials: list[FrozenTrial], n_best: int) -> list[FrozenTrial]:
    """Return the `n_best` trials as TPE ranks them, with constraints and several objectives.

    Optuna 5.0.0: `optuna.samplers._tpe.sampler._split_trials`.
    """
    best: list[FrozenTrial] = _split_trials(study, trials, n_best)[0]
    return best


def get_fixed_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that `Study.enqueue_trial` has fixed of a trial that is being drawn.

    Optuna 5.0.0: the system attribute `fixed_params`.
    """
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return fixed


def find_trial_id(study: Study, number: int) -> int:
    """Return a trial's id in the storage.

    Optuna 5.0.0: `Study._storage`, `Study._study_id`.
    """
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def set_constraint(study: Study, number: int, metric: str, excess: float) -> None:
    """Store a constraint as `Trial.set_constraint` does, also for a trial of an interrupted study.

    Optuna 5.0.0: `Study._storage`, the system attributes `constraints:METRIC`.
    """
    study._storage.set_trial_system_attr(find_trial_id(study, number), f"constraints:{metric}", excess)


def set_intermediate_value(study: Study, number: int, epoch: int, score: float) -> None:
    """Store a trial's score of an epoch, also for a trial of an interrupted study.

    Optuna 5.0.0: `Study._storage`.
    """
    study._storage.set_trial_intermediate_value(find_trial_id(study, number), epoch, score)


def end_trial(
    study: Study, number: int, attributes: Mapping[str, Any], state: TrialState, values: Sequence[float] | None
) -> None:
    """Store a trial's attributes, final state and values. `Study.tell` would warn about a resumed trial's old scores.

    Optuna 5.0.0: `Study._storage`.
    """
    trial_id = find_trial_id(study, number)
    for name, value in attributes.items():
        study._storage.set_trial_user_attr(trial_id, name, value)
    study._storage.set_trial_state_values(trial_id, state, values)
