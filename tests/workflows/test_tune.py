"""The state of a study of `ser tune` after it ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import WorkFailed
from ser_platform.features.dataset import DataRequest
from ser_platform.tuning.search_space.yaml_file import parse_space
from ser_platform.tuning.study.study_folder import STUDY_FAILED, STUDY_INTERRUPTED, StudyFolder
from ser_platform.workflows import tune
from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest
from tests.tuning.study_folders import create_study_folder

STUDENT = PlannedStudy("student.yaml")
STUDENT_TEXT = "role: student\nspace: {distill.alpha: {choice: [0.5, 0.9]}}\nbudget: {trials: 2}\n"
ENDINGS = [(KeyboardInterrupt(), STUDY_INTERRUPTED), (WorkFailed("the store is away"), STUDY_FAILED)]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    folder = create_study_folder("student-demo", role="student")
    monkeypatch.setattr(tune, "_open_study_folder", lambda plan, study, space, corpus: folder)
    return folder


def run_study() -> None:
    plan = TuneRequest([STUDENT], DataRequest(CorpusRequest("demo")))
    space = parse_space(Path("student.yaml"), STUDENT_TEXT)
    tune._run_study(tune._open_study(plan, STUDENT, space, None, None, "0", None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("ended", "state"), ENDINGS)
def test_the_state_of_a_study_that_ends_while_its_teacher_is_prepared(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, ended: BaseException, state: str
) -> None:
    def prepare(*_: Any) -> None:
        raise ended

    monkeypatch.setattr(tune, "_find_study_teacher", prepare)
    with pytest.raises(type(ended)):
        run_study()
    assert folder.summary["state"] == state


@pytest.mark.parametrize(("ended", "state"), ENDINGS)
def test_the_state_of_a_study_that_ends_during_its_search(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, ended: BaseException, state: str
) -> None:
    def search() -> None:
        raise ended

    def make_runner(*_: Any) -> SimpleNamespace:
        return SimpleNamespace(run=search, abandon=lambda state: folder.update(state=state))

    monkeypatch.setattr(tune, "_find_study_teacher", lambda *_: None)
    monkeypatch.setattr(tune, "StudyRunner", make_runner)
    with pytest.raises(type(ended)):
        run_study()
    assert folder.summary["state"] == state
