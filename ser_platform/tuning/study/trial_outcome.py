"""The outcome of a trial, stored as an attribute of it in the study's storage."""

from enum import StrEnum

import optuna
from optuna.trial import FrozenTrial, TrialState

from ser_platform.errors import WorkFailed

OUTCOME_ATTRIBUTE = "outcome"
TWIN_ATTRIBUTE = "twin"  # of a duplicate: the number of the trial with the same configuration
MESSAGE_ATTRIBUTE = "state"  # the outcome as a sentence, for people; version 0.1 wrote only this


class Outcome(StrEnum):
    """The outcome of a trial. Trials with the last three were answered without training."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    OVER_LIMIT = "over_limit"
    CONTRADICTORY = "contradictory"


UNTRAINED_OUTCOMES = (Outcome.DUPLICATE, Outcome.OVER_LIMIT, Outcome.CONTRADICTORY)
OUTCOMES_BY_STATE = {
    TrialState.WAITING: Outcome.WAITING,
    TrialState.RUNNING: Outcome.RUNNING,
    TrialState.COMPLETE: Outcome.COMPLETE,
    TrialState.PRUNED: Outcome.PRUNED,
    TrialState.FAIL: Outcome.FAILED,
}


def read_outcome(trial: FrozenTrial) -> Outcome:
    """Return the outcome of a stored trial; without the attribute, from its message or its state in Optuna.

    Raises:
        WorkFailed: the stored outcome is unknown, as from a newer version.
    """
    written = trial.user_attrs.get(OUTCOME_ATTRIBUTE)
    try:
        return _read_message_of_0_1(trial) if written is None else Outcome(written)
    except ValueError:
        found = trial.user_attrs[MESSAGE_ATTRIBUTE] if written is None else written
        raise WorkFailed(
            f"trial {trial.number} has the outcome {found!r}; this version reads: {', '.join(Outcome)}"
        ) from None


def write_untrained(trial: optuna.Trial, outcome: Outcome, message: str, twin: int | None = None) -> None:
    """Store the reason why a drawn configuration is not trained; `twin` is the trial that a duplicate repeats."""
    trial.set_user_attr(OUTCOME_ATTRIBUTE, outcome.value)
    if twin is not None:
        trial.set_user_attr(TWIN_ATTRIBUTE, twin)
    trial.set_user_attr(MESSAGE_ATTRIBUTE, message)


def _read_message_of_0_1(trial: FrozenTrial) -> Outcome:
    """Return the outcome of a trial of version 0.1, which stored a sentence at the trial's end."""
    message = trial.user_attrs.get(MESSAGE_ATTRIBUTE)
    if message is None:
        return OUTCOMES_BY_STATE[trial.state]
    if message.startswith("same as "):
        return Outcome.DUPLICATE
    if message == "over the limit":
        return Outcome.OVER_LIMIT
    if message.startswith("contradicts itself: "):
        return Outcome.CONTRADICTORY
    return Outcome(message)
