"""`ser tune`: a corpus, one study after another, a leaderboard; resumable as a whole."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ser_platform.distillation.hint_targets import require_hint_teacher
from ser_platform.distillation.outputs import IN_SAMPLE
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.baseline import predict_with_svm
from ser_platform.evaluation.scoring import TestScore, score_test
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.files import read_json, remove_torn_files, replacing, write_json
from ser_platform.progress import Display
from ser_platform.settings import Overrides, as_json, check_overrides, runs_folder
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.registry import RegisteredVersion, find_version
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
from ser_platform.tuning.search_space.yaml_file import read_space_text
from ser_platform.tuning.study.request import StudyRequest, read_request
from ser_platform.tuning.study.study_folder import (
    STUDY_FAILED,
    STUDY_FINISHED,
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
from ser_platform.workflows.register_candidate import find_code_version
from ser_platform.workflows.run_lock import hold_tuning_lock
from ser_platform.workflows.run_study import StudyResult, StudyRunner
from ser_platform.workflows.trial_data import TrialDataBuilder

CONTROL_SUFFIX = "+control"  # behind a space's path: the search of its students without a teacher


@dataclass
class TuneRequest:
    """What `ser tune` was asked for, and the study that each space has become; kept in `runs/tune.json`.

    A space may be there twice, the second time with `CONTROL_SUFFIX` behind its path.
    """

    spaces: list[str]
    data: DataRequest
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    overrides: Overrides = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    warm_start: list[str] = field(default_factory=list)  # earlier studies
    allow_leak: bool = False
    teacher: str = ""  # a registered model, in place of the candidate or champion
    needs_control: bool = True  # else it is left out where the corpus is too small for it
    texts: dict[str, str] = field(default_factory=dict)  # of the spaces, as they were when the plan began

    @staticmethod
    def path() -> Path:
        return runs_folder() / "tune.json"

    def save(self) -> None:
        plain = {"data": self.data.as_json(), "overrides": as_json(self.overrides)}
        write_json(self.path(), self.__dict__ | plain)

    @classmethod
    def load_last(cls) -> "TuneRequest":
        """Return the last plan of the working directory.

        Raises:
            UserError: there is none, or it is finished.
        """
        plan = cls.load_unfinished()
        if plan is not None:
            return plan
        if not cls.path().exists():
            raise UserError("nothing to resume here; start with: ser tune")
        raise UserError("the last tuning is finished: nothing to resume; start another with: ser tune")

    @classmethod
    def load_unfinished(cls) -> "TuneRequest | None":
        """Return the last plan of the working directory unless there is none or it is finished.

        Raises:
            UserError: another version wrote it.
        """
        if not cls.path().exists():
            return None
        content: dict[str, Any] = read_json(cls.path())
        try:
            content["data"] = DataRequest.from_json(content["data"])
            content["overrides"] = check_overrides(content["overrides"])
            content["confirm"] = None if content["confirm"] is None else tuple(content["confirm"])
            plan = cls(**content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{cls.path()} is of another version; start another tuning with: ser tune") from error
        return None if all(plan.is_finished(space) for space in plan.spaces) and not plan.uncompared_spaces else plan

    @property
    def uncompared_spaces(self) -> list[str]:
        """The spaces whose student is still to be compared with its control."""
        paths = [path for path in self.spaces if path + CONTROL_SUFFIX in self.spaces]
        folders = {path: self.find_folder(path) for path in paths}
        return [path for path, folder in folders.items() if folder is None or not folder.summary.get("control")]

    def find_folder(self, space: str) -> StudyFolder | None:
        """Return the folder of the study that a space has become, None before it has begun."""
        folder = StudyFolder(runs_folder() / self.studies[space]) if space in self.studies else None
        return folder if folder is not None and folder.has_begun else None

    def find_registered(self, client: Client, space: str) -> RegisteredVersion:
        """Return the model that the finished study of a space has registered."""
        folder = self.find_folder(space)
        assert folder is not None
        name, _, version = folder.summary["registered"].rpartition(" v")  # its title
        return find_version(client, name, version)

    def is_finished(self, space: str) -> bool:
        """Tell whether the study of a space is finished."""
        folder = self.find_folder(space)
        return folder is not None and folder.summary["state"] == STUDY_FINISHED

    def make_study_request(self, space: str) -> StudyRequest:
        """Return what the study of a space is asked for: as it was when it began, else as it is now."""
        folder = self.find_folder(space)
        if folder is not None:
            return read_request(folder)
        path = space.removesuffix(CONTROL_SUFFIX)
        return StudyRequest(
            path,
            self.texts[path],
            self.data,
            self.overrides,
            self.trials,
            self.minutes,
            confirm=self.confirm,
            is_control=path != space,
            teacher=self.teacher,
        )

    def read_spaces(self) -> list[Space]:
        """Read and check all search spaces, with the user's overrides.

        Raises:
            SpaceError: one of them cannot be searched.
        """
        for path in (space.removesuffix(CONTROL_SUFFIX) for space in self.spaces):
            if path not in self.texts and self.find_folder(path) is None:
                self.texts[path] = read_space_text(Path(path))
        return [self.make_study_request(path).read_space() for path in self.spaces]

    def with_control(self, *, is_required: bool) -> "TuneRequest":
        """Return the plan with the control of each of its student's spaces, behind it.

        Args:
            needed: refuse a corpus that is too small for it.

        Raises:
            UserError: none of them distils.
        """
        spaces = self.read_spaces()
        students = [path for path, space in zip(self.spaces, spaces, strict=True) if _is_distilled(space)]
        if not students:
            raise UserError("--control is of a space whose students learn from a teacher; none of these does")
        both = [
            entry for path in self.spaces for entry in ([path, path + CONTROL_SUFFIX] if path in students else [path])
        ]
        return replace(self, spaces=both, needs_control=is_required)

    def drop_controls(self) -> list[Space]:
        """Leave out every control; return the spaces that are left."""
        self.spaces = [path for path in self.spaces if not path.endswith(CONTROL_SUFFIX)]
        self.save()
        return self.read_spaces()


@dataclass(frozen=True)
class TuneResult:
    """What `ser tune` came to: the studies of this call, and the SVM's score on the same test clips."""

    corpus: Dataset
    study_results: list[StudyResult]
    baseline: TestScore
    seconds: float
    controls: list[ControlResult] = field(default_factory=list)


def tune(plan: TuneRequest, display: Display) -> TuneResult:
    """Run the plan's studies that are not finished.

    Raises:
        UserError: the plan cannot be carried out, before anything starts; or another tuning runs in this folder.
    """
    spaces = plan.read_spaces()  # what cannot be searched is refused before a folder is made
    for path, space in zip(plan.spaces, spaces, strict=True):
        if not plan.is_finished(path):
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
        if plan.uncompared_spaces:
            try:  # refused before hours of search
                _refuse_infeasible_control(corpus, [spaces[plan.spaces.index(path)] for path in plan.uncompared_spaces])
            except UserError as error:
                if plan.needs_control:
                    raise
                display.print_line(f"no control: {error}")
                spaces = plan.drop_controls()
        if not all(plan.is_finished(path) for path in plan.spaces):
            _require_teacher(spaces, client, corpus, plan.teacher)
        for space in spaces:
            _refuse_unlabelled_overlap(space, corpus, display)
        refuse_other_roles(plan.warm_start, [space.role for space in spaces])
        for space in spaces:
            make_warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    study_results: list[StudyResult] = []
    experiment = find_or_create_experiment(client, f"ser-{corpus.name}")
    with connect_cluster() as cluster:
        for space in spaces:
            if space.resources.workers:
                form_trial_team(space.resources.workers, cluster)  # refuses more workers than there are places
                require_shared(runs_folder(), f"resources.workers {space.resources.workers}")
            else:
                cluster.plan_trial_slots(space.resources)
                require_team_slots(space, runs_folder())
        for path, space in zip(plan.spaces, spaces, strict=True):
            if plan.is_finished(path):
                display.print_line(f"{space.name}: finished before ({plan.studies[path]})")
                continue
            offered = cluster if space.resources.workers else cluster.plan_trial_slots(space.resources)
            study_results.append(_run_study(plan, path, space, corpus, client, experiment, offered, display))
        controls = [
            _compare_with_control(
                plan, path, dict(zip(plan.spaces, spaces, strict=True)), corpus, client, cluster, display
            )
            for path in plan.uncompared_spaces
        ]
    return TuneResult(corpus, study_results, score_baseline(corpus, dtype), time.monotonic() - began, controls)


def _refuse_infeasible_control(corpus: Dataset, students: Sequence[Space]) -> None:
    """Refuse a control that could not be compared.

    Raises:
        UserError: there are too few speakers, or a trial may ask the registered teacher, which has heard most of them.
    """
    make_assessment_folds(corpus.split)
    for space in students:
        if IN_SAMPLE in list_output_modes(space):
            raise UserError(
                f"{space.name}: distill.outputs {IN_SAMPLE} asks a teacher that has heard those whom a control judges "
                "by; take out_of_fold or ensemble, or --no-control"
            )


def _refuse_unlabelled_overlap(space: Space, corpus: Dataset, display: Display) -> None:
    """Refuse unlabelled speech that holds whom the corpus holds, before hours of search.

    Raises:
        LineageLeak: it does; names the files.
    """
    name = find_unlabelled_name(space)
    if name and _is_distilled(space):
        with display.showing_progress(f"{name}: files decoded") as progress:
            needs = [(list_input_families([space]), space.fixed_settings.features.dtype)]
            prepare_unlabelled(name, needs, progress, choose_mapper()).refuse_overlap(corpus.split)


def _compare_with_control(
    plan: TuneRequest,
    path: str,
    spaces: Mapping[str, Space],
    corpus: Dataset,
    client: Client,
    cluster: Cluster,
    display: Display,
) -> ControlResult:
    """Compare the student of a space with its control, and keep what was found with its study."""
    arms = {}
    study = plan.find_folder(path)
    assert study is not None, "both studies are finished"
    for entry in (path, path + CONTROL_SUFFIX):
        if (folder := plan.find_folder(entry)) is not None:
            _refuse_changed_split(folder, corpus)
    teacher = _find_study_teacher(plan, study, corpus, client, display)

    def show_progress(what: str) -> AbstractContextManager[ProgressCallback]:
        return display.showing_progress(f"{spaces[path].name}: {what}")

    for name, entry in ((DISTILLED, path), (UNDISTILLED, path + CONTROL_SUFFIX)):
        offered = cluster.plan_trial_slots(spaces[entry].resources)
        tasks = TrialDataBuilder(spaces[entry], corpus, teacher, offered, show_progress)
        arms[name] = Arm(plan.find_registered(client, entry), tasks)
    comparison = Comparison(corpus, study, teacher, arms, client, offered, show_progress)
    control = comparison.run()
    log_control(client, study.summary["run_id"], control, comparison.folder)
    study.update(control=control.as_json())
    _, page = write_report(study)
    client.log_artifacts(study.summary["run_id"], str(page.parent), "report")
    return control


@contextlib.contextmanager
def _save_request(plan: TuneRequest) -> Iterator[None]:
    """Save the plan before the work that the block does for it; one that is refused leaves the last in its place."""
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


def _run_study(
    plan: TuneRequest,
    path: str,
    space: Space,
    corpus: Dataset,
    client: Client,
    experiment: str,
    cluster: Cluster,
    display: Display,
) -> StudyResult:
    folder = _open_study_folder(plan, path, space, corpus)
    try:
        teacher = _find_study_teacher(plan, folder, corpus, client, display) if _is_distilled(space) else None
        if teacher is not None and may_use_hints(space):  # before its fold teachers are trained
            require_hint_teacher(teacher.description.settings, teacher.title)
    except BaseException:
        folder.update(state=STUDY_FAILED)
        raise
    run = StudyRunner(space, corpus, folder, client, experiment, cluster, display, find_code_version(), teacher)
    try:
        return run.run()
    except KeyboardInterrupt:
        run.abandon(STUDY_INTERRUPTED)
        raise
    except BaseException:
        run.abandon(STUDY_FAILED)
        raise


def _find_study_teacher(
    plan: TuneRequest, folder: StudyFolder, corpus: Dataset, client: Client, display: Display
) -> Teacher:
    """Return the teacher of a study, what it hears stored: who taught its first trials teaches the others too."""
    known = folder.summary.get("teacher")
    teacher = load_teacher(client, corpus, known) if known else find_teacher(client, corpus, corpus.split, plan.teacher)
    folder.update(teacher=teacher.title)
    for needs, dtype in teacher.feature_needs:
        add_features(corpus, needs, dtype, display)
    return teacher


def _open_study_folder(plan: TuneRequest, path: str, space: Space, corpus: Dataset) -> StudyFolder:
    """Return the study's folder: the one it was interrupted in, or a new one, of which the plan knows first."""
    known = plan.find_folder(path)
    if known is not None:
        _refuse_changed_split(known, corpus)
        remove_torn_files(known.path)
        known.update(state=STUDY_RUNNING)
        return known
    request = plan.make_study_request(path)
    if path not in plan.studies:
        now = time.strftime("%m%d-%H%M%S")
        plan.studies[path] = f"{space.name}-{corpus.name}-{now}-{uuid.uuid4().hex[:4]}"
        plan.save()
    folder = StudyFolder(runs_folder() / plan.studies[path])
    request.save(folder)
    past = make_warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    past.save(folder, corpus.split)
    return begin_study(folder, role=space.role, corpus=corpus.name, space=path, split=corpus.split.fingerprint)


def _refuse_changed_split(study: StudyFolder, corpus: Dataset) -> None:
    """Refuse to go on with a study of other clips.

    Raises:
        CorpusError: the corpus or its split is not what it was.
    """
    if study.summary["split"] != corpus.split.fingerprint:
        raise CorpusError(f"{study.name} cannot be resumed: the corpus or its split has changed since it began")


def score_baseline(corpus: Dataset, dtype: str) -> TestScore:
    """Score the pooled-feature SVM on the test clips."""
    score = score_test(corpus.split, corpus.labels, predict_with_svm(corpus.split, dtype))
    record_test_evaluation(corpus.split.test_fingerprint, "pooled-feature SVM", "reference row of the leaderboard")
    return score


def _is_distilled(space: Space) -> bool:
    return space.role == "student" and _may_distil(space)


def _may_distil(space: Space) -> bool:
    """Tell whether any configuration of a space learns from a teacher."""
    axis = next((axis for axis in space.axes if axis.name == "distill.alpha"), None)
    return space.fixed_settings.distill.alpha > 0 if axis is None else max(axis.values) > 0


def _require_teacher(spaces: Sequence[Space], client: Client, corpus: Dataset, teacher_name: str) -> None:
    """Refuse a student that distils where no teacher can be had: none is there or tuned before, or the split leaks."""
    if teacher_name and not any(map(_is_distilled, spaces)):
        raise UserError(f"--teacher {teacher_name}: nobody learns from it; none of these spaces distils into a student")
    for space in spaces:
        if _is_distilled(space):
            refuse_leaky_distillation(corpus.split)
    for space in spaces:
        if space.role == "teacher" and not teacher_name:
            return
        if _is_distilled(space):
            find_teacher(client, corpus, corpus.split, teacher_name)


def _require_agreement(spaces: Sequence[Space], setting: str) -> str:
    """Return what the spaces agree on where a tuning has one of it."""
    values = {str(space.fixed_settings.value(setting)) for space in spaces}
    if len(values) > 1:
        choices = "; ".join(sorted(values))
        raise UserError(f"the search spaces disagree on {setting} ({choices}); give --set {setting}=...")
    return values.pop()
