"""A distilled student, its control and its teacher are compared on the same folds, with the same seeds."""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.splits.split import Split
from ser_platform.distillation.outputs import list_outputs
from ser_platform.errors import CorpusError, UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.progress import Display
from ser_platform.settings import resolve
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import download_bundle, find_version
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import FitJob, FitResult
from ser_platform.tuning.search_space.yaml_file import parse_space
from ser_platform.workflows import distillation_control, tune
from ser_platform.workflows.distillation_control import ROW_NAMES, Arm, Comparison, make_assessment_folds
from ser_platform.workflows.tune_request import PlannedStudy
from tests.tuning.study_folders import create_study_folder

TEACHER = """
role: teacher
base: {model.name: bilstm, model.hidden_size: 12, train.epochs: 3, train.batch_size: 16}
space:
  optimizer.lr: {choice: [3.0e-3, 1.0e-2]}
budget: {trials: 1}
confirm: {trials: 1, seeds: 1}
"""
STUDENT = """
role: student
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 2, train.batch_size: 16, augment.copies: 1}
space:
  distill.alpha:   {choice: [0.5, 0.9]}
  distill.outputs: {choice: [out_of_fold, ensemble]}
  optimizer.lr:    {choice: [3.0e-3, 1.0e-2]}
budget: {trials: 2}
confirm: {trials: 1, seeds: 1}
"""


def test_each_speaker_is_test_once_and_dev_once_and_never_both_with_training(split: Split) -> None:
    folds = make_assessment_folds(split)
    everyone = sorted(split.manifest.speakers)
    assert sorted(speaker for fold in folds for speaker in fold.speakers("test")) == everyone
    assert sorted(speaker for fold in folds for speaker in fold.speakers("dev")) == everyone
    assert [fold.fold for fold in folds] == ["1/3", "2/3", "3/3"]
    assert all(fold.protocol == "speaker" and not fold.leaks for fold in folds)


def test_too_few_speakers_are_refused(split: Split) -> None:
    few = SimpleNamespace(manifest=SimpleNamespace(speakers=("a", "b", "c", "d", "e")), seed=0)
    with pytest.raises(UserError, match="the corpus has 5 speakers"):
        make_assessment_folds(few)  # type: ignore[arg-type]


def test_the_control_is_the_same_search_without_a_teacher() -> None:
    space = parse_space(Path("student.yaml"), STUDENT)
    alone = space.without_teacher()
    assert alone.name == "student_control"
    assert [axis.name for axis in alone.axes] == ["optimizer.lr"]
    assert alone.resolve_settings({"optimizer.lr": 1e-2}).distill.alpha == 0
    assert alone.budget == space.budget and alone.confirmation == space.confirmation


def test_a_request_has_a_control_after_each_distilled_student_and_can_drop_it(tmp_path: Path) -> None:
    for name, text in (("teacher", TEACHER), ("student", STUDENT)):
        (tmp_path / f"{name}.yaml").write_text(text)
    teacher, student = (str(tmp_path / f"{name}.yaml") for name in ("teacher", "student"))
    plan = tune.TuneRequest([PlannedStudy(teacher), PlannedStudy(student)], DataRequest(CorpusRequest("demo")))
    both = plan.with_control(is_required=False)
    assert both.planned == [PlannedStudy(teacher), PlannedStudy(student), PlannedStudy(student, is_control=True)]
    assert [space.name for space in both.read_spaces()] == ["teacher", "student", "student_control"]
    assert both.uncompared_studies == [PlannedStudy(student)]
    assert [space.name for space in both.drop_controls()] == ["teacher", "student"]
    assert both.uncompared_studies == []
    with pytest.raises(UserError, match="none has distill.alpha above 0"):
        tune.TuneRequest([PlannedStudy(teacher)], DataRequest(CorpusRequest("demo"))).with_control(is_required=True)


class Arms:
    """A comparison without training: the distilled student is always correct, the undistilled for half of the clips."""

    def __init__(self, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[FitJob] = []
        self.split = split
        labels = split.manifest.labels
        settings = {
            "undistilled": resolve({"model.name": "bilstm"}),
            "distilled": resolve({"model.name": "bilstm", "distill.alpha": 0.5}),
        }
        models = {name: SimpleNamespace(title=f"ser-student/{name}", name=name) for name in settings}
        teacher = SimpleNamespace(
            description=SimpleNamespace(settings=resolve({"model.name": "cnn_bilstm"})),
            digest="d" * 64,
            n_epochs=3,
            model=SimpleNamespace(title="ser-teacher/1", name="teacher"),
            own_teacher=None,
        )
        monkeypatch.setattr(
            distillation_control,
            "load_description",
            lambda client, model: SimpleNamespace(settings=settings[model.name]),
        )
        monkeypatch.setattr(distillation_control, "download_bundle", lambda client, model: Path("nowhere"))
        monkeypatch.setattr(distillation_control, "load_bundle", self.gone)
        monkeypatch.setattr(distillation_control, "fit_all", self.answer)
        tasks = SimpleNamespace(
            build_for_other_split=lambda fold, chosen, groups: SimpleNamespace(train=fold.train),
            list_missing_fold_teachers=lambda fold, chosen, groups: [],
        )
        self.study = create_study_folder("made", role="student")
        self.comparison = Comparison(
            SimpleNamespace(split=split, labels=labels),  # type: ignore[arg-type]
            self.study,
            teacher,  # type: ignore[arg-type]
            {name: Arm(model, tasks) for name, model in models.items()},  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            Cluster(1, 0.0),
            lambda what: nullcontext(lambda done, everything: None),
        )

    def gone(self, *_: Any) -> None:
        raise UserError("lost its weights")

    def answer(
        self,
        jobs: Sequence[FitJob],
        where: Cluster,
        progress: Callable[[int, int], None],
        on_result: Callable[[int, FitResult], None],
    ) -> list[FitResult]:
        self.jobs += jobs
        targets = self.split.manifest.encode_targets(self.split.manifest.labels)
        fits = []
        for number, job in enumerate(jobs):
            predicted = targets[job.label_rows].copy()
            if job.settings.model.name == "bilstm" and not job.settings.distill.alpha:
                predicted[::2] = (predicted[::2] + 1) % 3
            fits.append(FitResult({}, None, [], None, np.eye(3, dtype=np.float32)[predicted]))  # type: ignore[arg-type]
            on_result(number, fits[-1])
        return fits


def test_arms_train_with_the_same_seeds_and_without_test_speakers(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = Arms(split, monkeypatch)
    arms.comparison.run()
    speaker = split.manifest.column("speaker")
    for job in arms.jobs:
        assert set(speaker[job.data.train]).isdisjoint(speaker[job.label_rows])
    students = [job for job in arms.jobs if job.settings.model.name == "bilstm"]
    alone, distilled = ([job for job in students if job.settings.distill.alpha == alpha] for alpha in (0, 0.5))
    assert [job.settings.seed for job in alone] == [job.settings.seed for job in distilled]
    assert len({job.settings.seed for job in alone}) == 3
    teachers = [job for job in arms.jobs if job.settings.model.name == "cnn_bilstm"]
    assert len(teachers) == 3 and all(job.stop_after == 3 and job.data.dev is None for job in teachers)


def test_the_report_has_three_rows_and_a_caveat_for_few_speakers(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Arms(split, monkeypatch).comparison.run()
    assert [row.name for row in found.rows] == list(ROW_NAMES)
    assert found.rows[2].uar.value == 1 and found.rows[1].uar.value == pytest.approx(0.5, abs=0.01)
    assert found.rows[0].agreement == 1 and found.rows[1].agreement == pytest.approx(0.5, abs=0.01)
    assert found.rows[1].size_bytes is None, "removed weights have no size"
    assert not found.paired_gain.is_proven and "these 6 speakers only" in found.paired_gain.verdict


def test_finished_folds_are_not_trained_again(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = Arms(split, monkeypatch)
    first = arms.comparison.run()
    n_jobs = len(arms.jobs)
    assert arms.comparison.run().as_json() == first.as_json(), "and no test evaluation is counted twice"
    assert len(arms.jobs) == n_jobs
    written = json.loads((arms.comparison.folder / "control.json").read_text())
    assert written == json.loads(json.dumps(first.as_json()))


@pytest.mark.ray
def test_a_control_is_tuned_reported_and_logged_and_outputs_are_used_without_the_teachers_weights(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(distillation_control, "N_SEEDS", 1)
    for name, text in (("teacher", TEACHER), ("student", STUDENT)):
        (tmp_path / f"{name}.yaml").write_text(text)
    request = DataRequest(CorpusRequest(str(tone_corpus)))
    plan = tune.TuneRequest([PlannedStudy(str(tmp_path / f"{name}.yaml")) for name in ("teacher", "student")], request)
    display = Display(Console(file=io.StringIO(), width=200))
    tuned = tune.tune(plan.with_control(is_required=True), display)
    assert [outcome.study_name.split("-")[0] for outcome in tuned.study_results] == [
        "teacher",
        "student",
        "student_control",
    ]
    (found,) = tuned.controls
    assert all(row.size_bytes and row.latency_ms for row in found.rows)
    client = open_client()
    (run,) = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"tags.study = '{found.study_name}' and tags.control LIKE '%'",
    )
    assert run.data.metrics["control_gain"] == pytest.approx(found.paired_gain.gain.value)
    logged = {Path(each.path).name for each in client.list_artifacts(run.info.run_id, "control")}
    assert logged == {"table.json", "control.json", "control.png"}

    teacher = find_version(client, "ser-teacher", "1")
    weights = next(download_bundle(client, teacher).rglob("model.safetensors"))
    weights.unlink()
    before = {kept.path for kept in list_outputs()}
    again = tune.tune(tune.TuneRequest([PlannedStudy(str(tmp_path / "student.yaml"))], request), display)
    assert again.study_results[0].state_counts["failed"] == 0
    assert {kept.path for kept in list_outputs()} == before, "no teacher output is computed again"


def test_a_given_teacher_without_students_is_refused() -> None:
    alone = parse_space(Path("student.yaml"), STUDENT).without_teacher()
    with pytest.raises(UserError, match="--teacher ser-teacher/3: no search space distils"):
        tune._require_teacher([alone], None, None, SimpleNamespace(teacher="ser-teacher/3"))  # type: ignore[arg-type]


def test_studies_of_other_clips_are_not_compared(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = PlannedStudy("student.yaml")
    plan = tune.TuneRequest([student, student.control], DataRequest(CorpusRequest("demo")))
    other = SimpleNamespace(summary={"split": "another"}, name="student-demo")
    monkeypatch.setattr(tune.TuneRequest, "find_folder", lambda self, path: other)
    with pytest.raises(CorpusError, match="student-demo cannot be resumed: the corpus or its split has changed"):
        tune._compare_with_control(plan, student, {}, SimpleNamespace(split=split), None, None, None, None)  # type: ignore[arg-type]
