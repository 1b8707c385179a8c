"""The stored request of `ser tune`, of this version and of version 0.1."""

import json
from typing import Any

import pytest

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.settings import runs_folder
from ser_platform.tuning.study.study_folder import STUDY_FINISHED, StudyFolder, begin_study
from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest, read_registered_model

TEACHER, STUDENT = PlannedStudy("teacher.yaml"), PlannedStudy("student.yaml")
STUDENT_TEXT = "role: student\nspace: {distill.alpha: {choice: [0.5, 0.9]}}\nbudget: {trials: 2}\n"

# `runs/tune.json` of version 0.1: the teacher's study is finished, the student's has begun, its control has not.
PLAN_OF_0_1: dict[str, Any] = {
    "spaces": ["teacher.yaml", "student.yaml", "student.yaml+control"],
    "data": {
        "speech": {
            "corpus": "demo",
            "as_name": None,
            "speaker_from": None,
            "columns": {},
            "labels": "as_labelled",
        },
        "protocol": "speaker",
        "fold": None,
        "seed": 3,
        "allow_leaky_split": False,
        "max_bad": 0.05,
    },
    "trials": 2,
    "minutes": None,
    "confirm": [1, 2],
    "overrides": {"train.epochs": 12},
    "studies": {
        "teacher.yaml": "teacher-demo-0101-120000-aaaa",
        "student.yaml": "student-demo-0101-120500-bbbb",
        "student.yaml+control": "student_control-demo-0101-121000-cccc",
    },
    "warm_start": [],
    "allow_leak": False,
    "teacher": "",
    "needs_control": False,
    "texts": {"teacher.yaml": "role: teacher\n", "student.yaml": STUDENT_TEXT},
}


def write_plan(content: dict[str, Any]) -> None:
    TuneRequest.path().parent.mkdir(parents=True, exist_ok=True)
    TuneRequest.path().write_text(json.dumps(content))


def test_a_request_of_version_0_1_continues() -> None:
    write_plan(PLAN_OF_0_1)
    teacher_folder = begin_study(StudyFolder(runs_folder() / "teacher-demo-0101-120000-aaaa"), role="teacher")
    teacher_folder.update(state=STUDY_FINISHED)
    begin_study(StudyFolder(runs_folder() / "student-demo-0101-120500-bbbb"), role="student")
    plan = TuneRequest.load_last()
    assert plan.planned == [TEACHER, STUDENT, STUDENT.control]
    assert [plan.is_finished(study) for study in plan.planned] == [True, False, False]
    student_folder = plan.find_folder(STUDENT)
    assert student_folder is not None and student_folder.name == "student-demo-0101-120500-bbbb"
    assert plan.study_names[STUDENT.control] == "student_control-demo-0101-121000-cccc"
    assert plan.uncompared_studies == [STUDENT]
    assert (plan.data.seed, plan.trials, plan.confirm, plan.needs_control) == (3, 2, (1, 2), False)
    request = plan.make_study_request(STUDENT.control)
    assert request.is_control and request.space == "student.yaml" and request.text == STUDENT_TEXT
    assert request.read_space().name == "student_control"


def test_a_request_of_version_0_1_is_saved_with_its_studies_as_records() -> None:
    write_plan(PLAN_OF_0_1)
    plan = TuneRequest.load_last()
    plan.save()
    written = json.loads(TuneRequest.path().read_text())
    assert written["planned"][2] == {"path": "student.yaml", "is_control": True}
    assert "+control" not in TuneRequest.path().read_text()
    assert TuneRequest.load_last() == plan


def test_a_path_may_end_like_a_control_of_version_0_1() -> None:
    plan = TuneRequest([PlannedStudy("odd+control")], DataRequest(CorpusRequest("demo")))
    plan.study_names[plan.planned[0]] = "odd-demo"
    plan.save()
    assert TuneRequest.load_last() == plan


@pytest.mark.parametrize("change", [{"spaces": None}, {"hurry": True}, {"planned": [{"file": "student.yaml"}]}])
def test_an_unknown_request_is_refused(change: dict[str, Any]) -> None:
    TuneRequest([STUDENT], DataRequest(CorpusRequest("demo"))).save()
    write_plan(json.loads(TuneRequest.path().read_text()) | change)
    with pytest.raises(UserError, match="is of another version; start another tuning with: ser tune"):
        TuneRequest.load_last()


def test_the_registered_model_is_read_from_its_fields() -> None:
    summary = {"registered": "shown to people", "registered_model": {"name": "ser-student v2", "version": "7"}}
    assert read_registered_model(summary) == ("ser-student v2", "7")


def test_the_registered_model_of_a_study_of_version_0_1_is_read_from_its_title() -> None:
    assert read_registered_model({"registered": "ser-student v12"}) == ("ser-student", "12")
