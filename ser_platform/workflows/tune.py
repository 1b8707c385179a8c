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

from ser_platform.distillation.hint_targets import refuse_hintless
from ser_platform.distillation.outputs import IN_SAMPLE
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.baseline import svm_predictions
from ser_platform.evaluation.scoring import TestScore, score_test
from ser_platform.evaluation.test_ledger import record_read
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.files import read_json, replacing, sweep, write_json
from ser_platform.progress import Display
from ser_platform.settings import Settings, as_json, runs_folder
from ser_platform.tracking.mlflow_store import Client, experiment_id, open_client
from ser_platform.tracking.registry import RegisteredModel, find_version
from ser_platform.tuning.execution.cluster import Cluster, cluster
from ser_platform.tuning.execution.distributed_fit import trial_team
from ser_platform.tuning.execution.fit_pool import Progress, refuse_homeless_team
from ser_platform.tuning.execution.remote_extraction import mapper
from ser_platform.tuning.execution.shared_storage import require_shared
from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.search_space.feasibility import refuse_impossible
from ser_platform.tuning.search_space.requirements import (
    has_hints,
    heard_families,
    needed_families,
    outputs_of,
    unlabelled_of,
)
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import read_text
from ser_platform.tuning.study.request import Request, request_of
from ser_platform.tuning.study.study_folder import FAILED, FINISHED, INTERRUPTED, RUNNING, StudyFolder, begin
from ser_platform.tuning.study.warm_start import refuse_unused, warm_start
from ser_platform.tuning.teacher_labels.teacher import Teacher, find_teacher, refuse_leaky_teaching, teacher_of
from ser_platform.tuning.teacher_labels.unlabelled_pool import prepare_unlabelled
from ser_platform.workflows.distillation_control import (
    DISTILLED,
    UNDISTILLED,
    Comparison,
    Control,
    Student,
    assessment_folds,
    log_control,
)
from ser_platform.workflows.register_candidate import code_version
from ser_platform.workflows.run_lock import only_tuning
from ser_platform.workflows.run_study import Outcome, StudyRun
from ser_platform.workflows.trial_data import StudyTasks

CONTROL = "+control"  # behind a space's path: the search of its students without a teacher


@dataclass
class Plan:
    """What `ser tune` was asked for, and the study that each space has become; kept in `runs/tune.json`.

    A space may be there twice, the second time with `CONTROL` behind its path.
    """

    spaces: list[str]
    data: DataRequest
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    overrides: Settings = field(default_factory=dict)
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
    def last(cls) -> "Plan":
        """Return the last plan of the working directory.

        Raises:
            UserError: there is none, or it is finished.
        """
        plan = cls.unfinished()
        if plan is not None:
            return plan
        if not cls.path().exists():
            raise UserError("nothing to resume here; start with: ser tune")
        raise UserError("the last tuning is finished: nothing to resume; start another with: ser tune")

    @classmethod
    def unfinished(cls) -> "Plan | None":
        """Return the last plan of the working directory unless there is none or it is finished.

        Raises:
            UserError: another version wrote it.
        """
        if not cls.path().exists():
            return None
        content: dict[str, Any] = read_json(cls.path())
        try:
            content["data"] = DataRequest.from_json(content["data"])
            content["confirm"] = None if content["confirm"] is None else tuple(content["confirm"])
            plan = cls(**content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{cls.path()} is of another version; start another tuning with: ser tune") from error
        return None if all(plan.finished(space) for space in plan.spaces) and not plan.uncompared else plan

    @property
    def uncompared(self) -> list[str]:
        """The spaces whose student is still to be compared with its control."""
        paths = [path for path in self.spaces if path + CONTROL in self.spaces]
        folders = {path: self.folder(path) for path in paths}
        return [path for path, folder in folders.items() if folder is None or not folder.summary.get("control")]

    def folder(self, space: str) -> StudyFolder | None:
        """Return the folder of the study that a space has become, None before it has begun."""
        folder = StudyFolder(runs_folder() / self.studies[space]) if space in self.studies else None
        return folder if folder is not None and folder.has_begun else None

    def registered(self, client: Client, space: str) -> RegisteredModel:
        """Return the model that the finished study of a space has registered."""
        folder = self.folder(space)
        assert folder is not None
        name, _, version = folder.summary["registered"].rpartition(" v")  # its title
        return find_version(client, name, version)

    def finished(self, space: str) -> bool:
        """Tell whether the study of a space is finished."""
        folder = self.folder(space)
        return folder is not None and folder.summary["state"] == FINISHED

    def request(self, space: str) -> Request:
        """Return what the study of a space is asked for: as it was when it began, else as it is now."""
        folder = self.folder(space)
        if folder is not None:
            return request_of(folder)
        path = space.removesuffix(CONTROL)
        return Request(
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
        for path in (space.removesuffix(CONTROL) for space in self.spaces):
            if path not in self.texts and self.folder(path) is None:
                self.texts[path] = read_text(Path(path))
        return [self.request(path).read() for path in self.spaces]

    def with_control(self, *, needed: bool) -> "Plan":
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
        both = [entry for path in self.spaces for entry in ([path, path + CONTROL] if path in students else [path])]
        return replace(self, spaces=both, needs_control=needed)

    def without_control(self) -> list[Space]:
        """Leave out every control; return the spaces that are left."""
        self.spaces = [path for path in self.spaces if not path.endswith(CONTROL)]
        self.save()
        return self.read_spaces()


@dataclass(frozen=True)
class Tuned:
    """What `ser tune` came to: the studies of this call, and the SVM's score on the same test clips."""

    corpus: Dataset
    outcomes: list[Outcome]
    baseline: TestScore
    seconds: float
    controls: list[Control] = field(default_factory=list)


def tune(plan: Plan, display: Display) -> Tuned:
    """Run the plan's studies that are not finished.

    Raises:
        UserError: the plan cannot be carried out, before anything starts; or another tuning runs in this folder.
    """
    spaces = plan.read_spaces()  # what cannot be searched is refused before a folder is made
    for path, space in zip(plan.spaces, spaces, strict=True):
        if not plan.finished(path):
            refuse_impossible(space)
    with only_tuning():
        sweep(Plan.path().parent)
        return _tune(plan, spaces, display)


def _tune(plan: Plan, spaces: list[Space], display: Display) -> Tuned:
    began = time.monotonic()
    with _kept(plan), ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_client)  # a new SQLite store takes seconds; the corpus is prepared meanwhile
        request, names = plan.data.with_labels(_agreed(spaces, "data.labels")), needed_families(spaces)
        dtype = _agreed(spaces, "features.dtype")
        corpus = prepare_dataset(request, display, one_split=True, names=names, mapper=mapper(), dtype=dtype)
        client = opening.result()
        if plan.uncompared:
            try:  # refused before hours of search
                _refuse_control(corpus, [spaces[plan.spaces.index(path)] for path in plan.uncompared])
            except UserError as error:
                if plan.needs_control:
                    raise
                display.say(f"no control: {error}")
                spaces = plan.without_control()
        if not all(plan.finished(path) for path in plan.spaces):
            _require_teacher(spaces, client, corpus, plan.teacher)
        for space in spaces:
            _refuse_overlap(space, corpus, display)
        refuse_unused(plan.warm_start, [space.role for space in spaces])
        for space in spaces:
            warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    outcomes: list[Outcome] = []
    experiment = experiment_id(client, f"ser-{corpus.name}")
    with cluster() as where:
        for space in spaces:
            if space.resources.workers:
                trial_team(space.resources.workers, where)  # refuses more workers than there are places
                require_shared(runs_folder(), f"resources.workers {space.resources.workers}")
            else:
                where.for_trials(space.resources)
                refuse_homeless_team(space, runs_folder())
        for path, space in zip(plan.spaces, spaces, strict=True):
            if plan.finished(path):
                display.say(f"{space.name}: finished before ({plan.studies[path]})")
                continue
            offered = where if space.resources.workers else where.for_trials(space.resources)
            outcomes.append(_study(plan, path, space, corpus, client, experiment, offered, display))
        controls = [
            _control(plan, path, dict(zip(plan.spaces, spaces, strict=True)), corpus, client, where, display)
            for path in plan.uncompared
        ]
    return Tuned(corpus, outcomes, score_baseline(corpus, dtype), time.monotonic() - began, controls)


def _refuse_control(corpus: Dataset, students: Sequence[Space]) -> None:
    """Refuse a control that could not be compared.

    Raises:
        UserError: there are too few speakers, or a trial may ask the registered teacher, which has heard most of them.
    """
    assessment_folds(corpus.split)
    for space in students:
        if IN_SAMPLE in outputs_of(space):
            raise UserError(
                f"{space.name}: distill.outputs {IN_SAMPLE} asks a teacher that has heard those whom a control judges "
                "by; take out_of_fold or ensemble, or --no-control"
            )


def _refuse_overlap(space: Space, corpus: Dataset, display: Display) -> None:
    """Refuse unlabelled speech that holds whom the corpus holds, before hours of search.

    Raises:
        LineageLeak: it does; names the files.
    """
    name = unlabelled_of(space)
    if name and _is_distilled(space):
        with display.counting(f"{name}: files decoded") as progress:
            needs = [(heard_families([space]), str(space.fixed("features.dtype")))]
            prepare_unlabelled(name, needs, progress, mapper()).refuse_overlap(corpus.split)


def _control(
    plan: Plan,
    path: str,
    spaces: Mapping[str, Space],
    corpus: Dataset,
    client: Client,
    where: Cluster,
    display: Display,
) -> Control:
    """Compare the student of a space with its control, and keep what was found with its study."""
    arms = {}
    study = plan.folder(path)
    assert study is not None, "both studies are finished"
    for entry in (path, path + CONTROL):
        if (folder := plan.folder(entry)) is not None:
            _refuse_changed(folder, corpus)
    teacher = _teacher(plan, study, corpus, client, display)

    def counting(what: str) -> AbstractContextManager[Progress]:
        return display.counting(f"{spaces[path].name}: {what}")

    for name, entry in ((DISTILLED, path), (UNDISTILLED, path + CONTROL)):
        offered = where.for_trials(spaces[entry].resources)
        tasks = StudyTasks(spaces[entry], corpus, teacher, offered, counting)
        arms[name] = Student(plan.registered(client, entry), tasks)
    comparison = Comparison(corpus, study, teacher, arms, client, offered, counting)
    control = comparison.run()
    log_control(client, study.summary["run_id"], control, comparison.folder)
    study.update(control=control.as_json())
    _, page = write_report(study)
    client.log_artifacts(study.summary["run_id"], str(page.parent), "report")
    return control


@contextlib.contextmanager
def _kept(plan: Plan) -> Iterator[None]:
    """Save the plan before the work that the block does for it; one that is refused leaves the last in its place."""
    before = Plan.path().read_bytes() if Plan.path().exists() else None
    plan.save()
    try:
        yield
    except UserError:
        if before is None:
            Plan.path().unlink()
        else:
            with replacing(Plan.path()) as temporary:
                temporary.write_bytes(before)
        raise


def _study(
    plan: Plan,
    path: str,
    space: Space,
    corpus: Dataset,
    client: Client,
    experiment: str,
    where: Cluster,
    display: Display,
) -> Outcome:
    folder = _folder(plan, path, space, corpus)
    try:
        teacher = _teacher(plan, folder, corpus, client, display) if _is_distilled(space) else None
        if teacher is not None and has_hints(space):  # before its fold teachers are trained
            refuse_hintless(teacher.described.settings, teacher.title)
    except BaseException:
        folder.update(state=FAILED)
        raise
    run = StudyRun(space, corpus, folder, client, experiment, where, display, code_version(), teacher)
    try:
        return run.run()
    except KeyboardInterrupt:
        run.abandon(INTERRUPTED)
        raise
    except BaseException:
        run.abandon(FAILED)
        raise


def _teacher(plan: Plan, folder: StudyFolder, corpus: Dataset, client: Client, display: Display) -> Teacher:
    """Return the teacher of a study, what it hears stored: who taught its first trials teaches the others too."""
    known = folder.summary.get("teacher")
    teacher = teacher_of(client, corpus, known) if known else find_teacher(client, corpus, corpus.split, plan.teacher)
    folder.update(teacher=teacher.title)
    for needs, dtype in teacher.hears:
        add_features(corpus, needs, dtype, display)
    return teacher


def _folder(plan: Plan, path: str, space: Space, corpus: Dataset) -> StudyFolder:
    """Return the study's folder: the one it was interrupted in, or a new one, of which the plan knows first."""
    known = plan.folder(path)
    if known is not None:
        _refuse_changed(known, corpus)
        sweep(known.path)
        known.update(state=RUNNING)
        return known
    request = plan.request(path)
    if path not in plan.studies:
        now = time.strftime("%m%d-%H%M%S")
        plan.studies[path] = f"{space.name}-{corpus.name}-{now}-{uuid.uuid4().hex[:4]}"
        plan.save()
    folder = StudyFolder(runs_folder() / plan.studies[path])
    request.write(folder)
    past = warm_start(plan.warm_start, space.role, corpus.split, allow_leak=plan.allow_leak)
    past.write(folder, corpus.split)
    return begin(folder, role=space.role, corpus=corpus.name, space=path, split=corpus.split.fingerprint)


def _refuse_changed(study: StudyFolder, corpus: Dataset) -> None:
    """Refuse to go on with a study of other clips.

    Raises:
        CorpusError: the corpus or its split is not what it was.
    """
    if study.summary["split"] != corpus.split.fingerprint:
        raise CorpusError(f"{study.name} cannot be resumed: the corpus or its split has changed since it began")


def score_baseline(corpus: Dataset, dtype: str) -> TestScore:
    """Score the pooled-feature SVM on the test clips."""
    score = score_test(corpus.split, corpus.labels, svm_predictions(corpus.split, dtype))
    record_read(corpus.split.test_fingerprint, "pooled-feature SVM", "reference row of the leaderboard")
    return score


def _is_distilled(space: Space) -> bool:
    return space.role == "student" and _distils(space)


def _distils(space: Space) -> bool:
    """Tell whether any configuration of a space learns from a teacher."""
    axis = next((axis for axis in space.axes if axis.name == "distill.alpha"), None)
    return space.fixed("distill.alpha") > 0 if axis is None else max(axis.values) > 0


def _require_teacher(spaces: Sequence[Space], client: Client, corpus: Dataset, named: str) -> None:
    """Refuse a student that distils where no teacher can be had: none is there or tuned before, or the split leaks."""
    if named and not any(map(_is_distilled, spaces)):
        raise UserError(f"--teacher {named}: nobody learns from it; none of these spaces distils into a student")
    for space in spaces:
        if _is_distilled(space):
            refuse_leaky_teaching(corpus.split)
    for space in spaces:
        if space.role == "teacher" and not named:
            return
        if _is_distilled(space):
            find_teacher(client, corpus, corpus.split, named)


def _agreed(spaces: Sequence[Space], setting: str) -> str:
    """Return what the spaces agree on where a tuning has one of it."""
    values = {str(space.fixed(setting)) for space in spaces}
    if len(values) > 1:
        told = "; ".join(sorted(values))
        raise UserError(f"the search spaces disagree on {setting} ({told}); give --set {setting}=...")
    return values.pop()
