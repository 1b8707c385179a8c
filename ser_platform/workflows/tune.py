"""`ser tune`: prepare a corpus, run one study after another, compare with controls; resumable as a whole."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ser_platform.distillation.hint_targets import require_hint_teacher
from ser_platform.distillation.outputs import IN_SAMPLE
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.scoring import TestScore, score_test
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.dataset import Dataset, add_features, prepare_dataset
from ser_platform.files import remove_torn_files, replacing
from ser_platform.progress import Display
from ser_platform.settings import runs_folder
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.registry import CANDIDATE, RegisteredVersion, find_alias, make_model_name
from ser_platform.tuning.execution.cluster import Cluster, connect_cluster
from ser_platform.tuning.execution.distributed_fit import form_trial_team
from ser_platform.tuning.execution.fit_pool import ProgressCallback, require_team_slots
from ser_platform.tuning.execution.remote_extraction import choose_mapper
from ser_platform.tuning.execution.shared_storage import require_shared
from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.search_space.feasibility import refuse_infeasible
from ser_platform.tuning.search_space.requirements import (
    find_unlabelled_name,
    list_input_families,
    list_needed_families,
    list_output_modes,
    may_use_hints,
)
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.study.study_folder import (
    STUDY_FAILED,
    STUDY_INTERRUPTED,
    STUDY_RUNNING,
    StudyFolder,
    begin_study,
)
from ser_platform.tuning.study.warm_start import make_warm_start, refuse_other_roles
from ser_platform.tuning.teacher_labels.teacher import Teacher, find_teacher, load_teacher, refuse_leaky_distillation
from ser_platform.tuning.teacher_labels.unlabelled_pool import prepare_unlabelled
from ser_platform.workflows.distillation_control import (
    DISTILLED,
    UNDISTILLED,
    Arm,
    Comparison,
    ControlResult,
    log_control,
    make_assessment_folds,
)
from ser_platform.workflows.run_lock import hold_tuning_lock
from ser_platform.workflows.run_study import StudyResult, StudyRunner
from ser_platform.workflows.trial_data import TrialDataBuilder
from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest, is_distilled


@dataclass(frozen=True)
class TuneResult:
    """Result of `ser tune`: the studies of this call, and the score of a linear SVM on the same test clips.

    `candidates` has the present candidate of each role that was tuned: a version of this call, or a better earlier one.
    """

    corpus: Dataset
    study_results: list[StudyResult]
    baseline: TestScore
    seconds: float
    candidates: list[RegisteredVersion]
    controls: list[ControlResult] = field(default_factory=list)


def tune(plan: TuneRequest, display: Display) -> TuneResult:
    """Run the unfinished studies of a request.

    Raises:
        UserError: the request cannot be fulfilled, which is found before a study starts; or another tuning is running
            in this folder.
    """
    spaces = plan.read_spaces()  # an invalid space is refused before a folder is created
    for study, space in zip(plan.planned, spaces, strict=True):
        if not plan.is_finished(study):
            refuse_infeasible(space)
    with hold_tuning_lock():
        remove_torn_files(TuneRequest.path().parent)
        return _run_studies(plan, spaces, display)


def _run_studies(plan: TuneRequest, spaces: list[Space], display: Display) -> TuneResult:
    began = time.monotonic()
    with _save_request(plan), ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_client)  # a new SQLite store takes seconds; the corpus is prepared meanwhile
        request, names = plan.data.with_labels(_require_agreement(spaces, "data.labels")), list_needed_families(spaces)
        dtype = _require_agreement(spaces, "features.dtype")
        corpus = prepare_dataset(
            request, display, require_one_split=True, names=names, mapper=choose_mapper(), dtype=dtype
        )
        client = opening.result()
        if students := plan.uncompared_studies:
            try:  # refused before hours of search
                _refuse_infeasible_control(corpus, [spaces[plan.planned.index(study)] for study in students])
            except UserError as error:
                if plan.needs_control:
                    raise
                display.print_line(f"no control: {error}")
                spaces = plan.drop_controls()
        if not all(map(plan.is_finished, plan.planned)):
            _require_teacher(spaces, client, corpus, plan)
        for space in spaces:
            _refuse_unlabelled_overlap(space, corpus, display)
        refuse_other_roles(plan.warm_start, [space.role for space in spaces])
        for space in spaces:
            make_warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    study_results: list[StudyResult] = []
    experiment = find_or_create_experiment(client, f"ser-{corpus.name}")
    written: list[Future[None]] = []
    # A report takes seconds: it is written while the next study begins, one at a time.
    with connect_cluster() as cluster, ThreadPoolExecutor(1) as reports:
        svm = reports.submit(_predict_with_svm, corpus, dtype)
        for space in spaces:
            if space.resources.workers:
                form_trial_team(space.resources.workers, cluster)  # refuses more workers than the cluster has slots
                require_shared(runs_folder(), f"resources.workers {space.resources.workers}")
            else:
                cluster.plan_trial_slots(space.resources)
                require_team_slots(space, runs_folder())
        for study, space in zip(plan.planned, spaces, strict=True):
            if plan.is_finished(study):
                display.print_line(f"{space.name}: finished before ({plan.study_names[study]})")
                if (folder := plan.find_folder(study)) and not (folder.path / "report" / "index.html").exists():
                    written.append(reports.submit(_write_missing_report, folder, client, display))
                continue
            offered = cluster if space.resources.workers else cluster.plan_trial_slots(space.resources)
            run = _open_study(plan, study, space, corpus, client, experiment, offered, display)
            study_results.append(_run_study(run))
            written.append(reports.submit(run.write_report))
        controls = [
            _compare_with_control(
                plan, study, dict(zip(plan.planned, spaces, strict=True)), corpus, client, cluster, display, reports
            )
            for study in plan.uncompared_studies
        ]
        for report in written:
            report.result()
        baseline = score_baseline(corpus, svm.result())
    tuned = dict.fromkeys(make_model_name(space.role, plan.register_as) for space in spaces)
    candidates = [found for name in tuned if (found := find_alias(client, name, CANDIDATE)) is not None]
    return TuneResult(corpus, study_results, baseline, time.monotonic() - began, candidates, controls)


def _refuse_infeasible_control(corpus: Dataset, students: Sequence[Space]) -> None:
    """Refuse a control that cannot be compared.

    Raises:
        UserError: there are too few speakers, or a trial uses the outputs of a teacher for its own training clips.
    """
    make_assessment_folds(corpus.split)
    for space in students:
        if IN_SAMPLE in list_output_modes(space):
            raise UserError(
                f"{space.name}: with distill.outputs {IN_SAMPLE} the teacher was trained on test speakers of the "
                "control; choose out_of_fold or ensemble, or use --no-control"
            )


def _refuse_unlabelled_overlap(space: Space, corpus: Dataset, display: Display) -> None:
    """Refuse unlabelled speech that contains speakers of the corpus, before hours of search.

    Raises:
        LineageLeak: names the files.
    """
    name = find_unlabelled_name(space)
    if name and is_distilled(space):
        needs = [(list_input_families([space]), space.fixed_settings.features.dtype)]
        prepare_unlabelled(name, needs, [corpus.split], display.show_progress)


def _compare_with_control(
    plan: TuneRequest,
    student: PlannedStudy,
    spaces: Mapping[PlannedStudy, Space],
    corpus: Dataset,
    client: Client,
    cluster: Cluster,
    display: Display,
    reports: Executor,
) -> ControlResult:
    """Compare a student with its control, and write the result to the student's study."""
    folder, control_folder = plan.find_folder(student), plan.find_folder(student.control)
    assert folder is not None, "the student's study is finished"
    assert control_folder is not None, "its control is finished"
    _refuse_changed_split(folder, corpus)
    _refuse_changed_split(control_folder, corpus)
    teacher = _find_study_teacher(plan, folder, corpus, client, display)

    @contextlib.contextmanager
    def show_progress(what: str) -> Iterator[ProgressCallback]:
        with folder.time_phase(what), display.show_progress(f"{spaces[student].name}: {what}") as progress:
            yield progress

    def make_arm(study: PlannedStudy) -> Arm:
        data_builder = TrialDataBuilder(spaces[study], corpus, teacher, trial_cluster, show_progress)
        return Arm(plan.find_registered(client, study), data_builder)

    trial_cluster = cluster.plan_trial_slots(spaces[student].resources)  # a control's resources are the same
    arms = {DISTILLED: make_arm(student), UNDISTILLED: make_arm(student.control)}
    comparison = Comparison(corpus, folder, teacher, arms, client, trial_cluster, show_progress)
    control = comparison.run()
    log_control(client, folder.summary["run_id"], control, comparison.folder)
    folder.update(control=control.as_json())
    _, page = reports.submit(write_report, folder).result()
    client.log_artifacts(folder.summary["run_id"], str(page.parent), "report")
    return control


def _write_missing_report(folder: StudyFolder, client: Client, display: Display) -> None:
    """Write the report of a study whose process was killed before it had one."""
    _, page = write_report(folder)
    client.log_artifacts(folder.summary["run_id"], str(page.parent), "report")
    display.print_line(f"{folder.name}: report in {page}")


@contextlib.contextmanager
def _save_request(plan: TuneRequest) -> Iterator[None]:
    """Save the request before the block; if the block refuses it, restore the previous request."""
    before = TuneRequest.path().read_bytes() if TuneRequest.path().exists() else None
    plan.save()
    try:
        yield
    except UserError:
        if before is None:
            TuneRequest.path().unlink()
        else:
            with replacing(TuneRequest.path()) as temporary:
                temporary.write_bytes(before)
        raise


def _open_study(
    plan: TuneRequest,
    study: PlannedStudy,
    space: Space,
    corpus: Dataset,
    client: Client,
    experiment: str,
    cluster: Cluster,
    display: Display,
) -> StudyRunner:
    folder = _open_study_folder(plan, study, space, corpus)
    try:
        teacher = _find_study_teacher(plan, folder, corpus, client, display) if is_distilled(space) else None
        if teacher is not None and may_use_hints(space):  # refused before fold teachers are trained
            require_hint_teacher(teacher.description.settings, teacher.title)
        return StudyRunner(space, corpus, folder, client, experiment, cluster, display, teacher, plan.register_as)
    except BaseException as ended:
        folder.update(state=_choose_state(ended))
        raise


def _run_study(run: StudyRunner) -> StudyResult:
    try:
        return run.run()
    except BaseException as ended:
        run.abandon(_choose_state(ended))
        raise


def _choose_state(ended: BaseException) -> str:
    """Return the state of a study that ended with an exception."""
    return STUDY_INTERRUPTED if isinstance(ended, KeyboardInterrupt) else STUDY_FAILED


def _find_study_teacher(
    plan: TuneRequest, folder: StudyFolder, corpus: Dataset, client: Client, display: Display
) -> Teacher:
    """Return the teacher of a study, the same for all its trials, after storing the features that it needs."""
    known = folder.summary.get("teacher")
    teacher = (
        load_teacher(client, corpus, known)
        if known
        else find_teacher(client, corpus, corpus.split, plan.teacher, plan.register_as)
    )
    folder.update(teacher=teacher.title)
    for needs, dtype in teacher.feature_needs:
        add_features(corpus, needs, dtype, display)
    return teacher


def _open_study_folder(plan: TuneRequest, study: PlannedStudy, space: Space, corpus: Dataset) -> StudyFolder:
    """Return the folder of an interrupted study, or a new one, whose name is first saved in the request."""
    known = plan.find_folder(study)
    if known is not None:
        _refuse_changed_split(known, corpus)
        remove_torn_files(known.path)
        known.update(state=STUDY_RUNNING)
        return known
    request = plan.make_study_request(study)
    if study not in plan.study_names:
        now = time.strftime("%m%d-%H%M%S")
        plan.study_names[study] = f"{space.name}-{corpus.name}-{now}-{uuid.uuid4().hex[:4]}"
        plan.save()
    folder = StudyFolder(runs_folder() / plan.study_names[study])
    request.save(folder)
    past = make_warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    past.save(folder, corpus.split)
    return begin_study(folder, role=space.role, corpus=corpus.name, space=study.path, split=corpus.split.fingerprint)


def _refuse_changed_split(study: StudyFolder, corpus: Dataset) -> None:
    """Refuse to continue a study on other clips.

    Raises:
        CorpusError: the corpus or its split has changed.
    """
    if study.summary["split"] != corpus.split.fingerprint:
        raise CorpusError(f"{study.name} cannot be resumed: the corpus or its split has changed since it began")


def score_baseline(corpus: Dataset, predictions: NDArray[np.int64]) -> TestScore:
    """Score the predictions of the pooled-feature SVM on the test clips."""
    score = score_test(corpus.split, corpus.labels, predictions)
    record_test_evaluation(corpus.split.test_fingerprint, "pooled-feature SVM", "reference row of the leaderboard")
    return score


def _predict_with_svm(corpus: Dataset, dtype: str) -> NDArray[np.int64]:
    from ser_platform.evaluation.baseline import predict_with_svm  # scikit-learn takes 2 s to import

    return predict_with_svm(corpus.split, dtype)


def _require_teacher(spaces: Sequence[Space], client: Client, corpus: Dataset, plan: TuneRequest) -> None:
    """Refuse distillation where the split leaks, or no teacher is registered, given or tuned before the student."""
    if plan.teacher and not any(map(is_distilled, spaces)):
        raise UserError(f"--teacher {plan.teacher}: no search space distils; add one with distill.alpha above 0")
    for space in spaces:
        if is_distilled(space):
            refuse_leaky_distillation(corpus.split)
    for space in spaces:
        if space.role == "teacher" and not plan.teacher:
            return
        if is_distilled(space):
            find_teacher(client, corpus, corpus.split, plan.teacher, plan.register_as)


def _require_agreement(spaces: Sequence[Space], setting: str) -> str:
    """Return the value of a setting that is the same in all spaces."""
    values = {str(space.fixed_settings.value(setting)) for space in spaces}
    if len(values) > 1:
        choices = "; ".join(sorted(values))
        raise UserError(f"the search spaces disagree on {setting} ({choices}); give --set {setting}=...")
    return values.pop()
