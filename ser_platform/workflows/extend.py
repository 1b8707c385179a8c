"""More trials for a study that has ended or was interrupted."""

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
    """Ask for `trials` more trials of a study; return the plan that carries it out.

    Raises:
        UserError: there is no such study, it keeps no copy of its space, or another tuning runs or waits here.
    """
    folder = find_study(name)
    request = read_request(folder)
    with hold_tuning_lock():
        return _make_tune_request(folder, request, trials, minutes)


def _make_tune_request(folder: StudyFolder, request: StudyRequest, trials: int, minutes: float | None) -> TuneRequest:
    plan, name = TuneRequest.load_unfinished(), folder.name
    if plan is not None and name not in plan.study_names.values():
        raise UserError(f"the last tuning is not finished: go on with ser tune --resume, then extend {name}")
    # The plan comes first, the state last: a kill between them leaves either nothing to do or all of it.
    if plan is None:
        study = PlannedStudy(request.space, request.is_control)
        plan = TuneRequest(
            [study],
            request.data,
            overrides=request.overrides,
            study_names={study: name},
            teacher=request.teacher,
        )
        plan.save()
    _extend_request(folder, request, trials, minutes).save(folder)
    if folder.summary["state"] == STUDY_FINISHED:
        folder.update(state=STUDY_INTERRUPTED, control=None)  # another winner would have another control
    return plan


def _extend_request(folder: StudyFolder, request: StudyRequest, trials: int, minutes: float | None) -> StudyRequest:
    """Return a request with more trials: beside those of a finished study, or those asked for of an interrupted one."""
    budget, has_ended = request.read_space().budget, folder.summary["state"] == STUDY_FINISHED
    done = len(describe_trials(folder.read_trials(), {}))
    more = minutes if minutes is not None else budget.minutes if has_ended else None
    return replace(
        request,
        trials=(done if has_ended else budget.trials) + trials,
        minutes=request.minutes if more is None else folder.searched_seconds / 60 + more,
        is_extended=True,
    )
