"""More trials for a finished or interrupted study."""

from dataclasses import replace

from ser_platform.errors import UserError
from ser_platform.tuning.study.request import StudyRequest, read_request
from ser_platform.tuning.study.study_folder import (
    STUDY_FINISHED,
    STUDY_INTERRUPTED,
    StudyFolder,
    describe_trials,
    find_study,
)
from ser_platform.workflows.run_lock import hold_tuning_lock
from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest


def extend(name: str, trials: int, minutes: float | None = None) -> TuneRequest:
    """Add `trials` trials to a study; return the request that runs them.

    Raises:
        UserError: there is no such study, it has no copy of its space, or another tuning of this folder is running or
            unfinished.
    """
    folder = find_study(name)
    request = read_request(folder)
    with hold_tuning_lock():
        return _make_tune_request(folder, request, trials, minutes)


def _make_tune_request(folder: StudyFolder, request: StudyRequest, trials: int, minutes: float | None) -> TuneRequest:
    plan, name = TuneRequest.load_unfinished(), folder.name
    if plan is not None and name not in plan.study_names.values():
        raise UserError(f"the last tuning is not finished: run ser tune --resume, then extend {name}")
    # The request is saved first and the state last, so that after a kill either nothing or everything is to be done.
    if plan is None:
        study = PlannedStudy(request.space, request.is_control)
        plan = TuneRequest(
            [study],
            request.data,
            overrides=request.overrides,
            study_names={study: name},
            teacher=request.teacher,
            register_as=request.register_as,
        )
        plan.save()
    _extend_request(folder, request, trials, minutes).save(folder)
    if folder.summary["state"] == STUDY_FINISHED:
        folder.update(state=STUDY_INTERRUPTED, control=None)  # a new winner needs a new control
    return plan


def _extend_request(folder: StudyFolder, request: StudyRequest, trials: int, minutes: float | None) -> StudyRequest:
    """Return a request with more trials than a finished study has, or than an interrupted study has requested."""
    budget, is_finished = request.read_space().budget, folder.summary["state"] == STUDY_FINISHED
    n_trials = len(describe_trials(folder.read_trials(), {}))
    more = minutes if minutes is not None else budget.minutes if is_finished else None
    return replace(
        request,
        trials=(n_trials if is_finished else budget.trials) + trials,
        minutes=request.minutes if more is None else folder.searched_seconds / 60 + more,
        is_extended=True,
    )
