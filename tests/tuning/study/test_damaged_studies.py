"""Damaged study files are reported in one line; a report replaces only an earlier report."""

import json

import pytest

from ser_platform.errors import SerError, UserError, WorkFailed
from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.study.request import REQUEST_FILE, SPACE_FILE, read_request
from ser_platform.tuning.study.study_folder import find_study, list_studies
from tests.tuning.study_folders import create_study_folder


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = create_study_folder("mine", role="student", corpus="none")
    folder.open_study()
    return folder


def test_a_damaged_line_of_the_journal_is_reported(study):
    journal = study.path / "journal.log"
    journal.write_text("{half a li\n" + journal.read_text())
    with pytest.raises(WorkFailed, match=r"journal\.log is damaged"):
        study.read_trials()


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": "mine"}', "half"])
def test_a_damaged_summary_is_reported_with_its_file(study, content):
    (study.path / "study.json").write_text(content)
    with pytest.raises(WorkFailed, match=r"study\.json is damaged"):
        list_studies()


def test_a_damaged_study_does_not_hide_the_others(study):
    other = create_study_folder("other", role="student", corpus="none")
    (study.path / "study.json").write_text("[]")
    assert find_study("other").summary == other.summary


@pytest.mark.parametrize("request_json", ["{}", '{"confirm": null, "odd": 1}'])
def test_an_incomplete_request_is_reported(study, request_json):
    (study.path / REQUEST_FILE).write_text(request_json)
    (study.path / SPACE_FILE).write_text("role: student")
    with pytest.raises(SerError, match="is damaged"):
        read_request(study)


def test_a_report_replaces_an_earlier_one_and_no_other_files(study, tmp_path):
    _, page = write_report(study, tmp_path / "report")
    write_report(study, tmp_path / "report")
    assert page.is_file()
    precious = tmp_path / "documents"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    (tmp_path / "file.txt").write_text("years")
    for taken in (precious, tmp_path / "file.txt", tmp_path):
        with pytest.raises(UserError, match="exists and is not the report of a study"):
            write_report(study, taken)
    assert (precious / "thesis.txt").read_text() == "years"
    assert json.loads((study.path / "study.json").read_text())["name"] == "mine"
