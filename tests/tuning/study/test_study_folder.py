"""A study on disk survives a kill in the middle of a line of its journal."""

import os

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ser_platform.errors import UnknownChoice
from ser_platform.tuning.study.study_folder import (
    StudyFolder,
    describe_trials,
    find_study,
    find_unfinished,
    list_studies,
)
from tests.tuning.study_folders import create_study_folder

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(n_trials: int) -> StudyFolder:
    folder = create_study_folder("made", role="student")
    study = folder.open_study()
    for number in range(n_trials):
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        trial.set_user_attr("parameters", 1000)
        trial.report(0.1 * number, 1)
        study.tell(trial, 0.1 * number)
    return folder


def tear(folder: StudyFolder) -> bytes:
    """Append half a line to the journal, as a kill does; return the content."""
    journal = folder.path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines) + lines[-1][: len(lines[-1]) // 2])
    return journal.read_bytes()


def test_a_torn_last_line_is_cut_and_the_study_opens():
    folder = study_of(3)
    tear(folder)
    study = folder.open_study()
    assert [trial.value for trial in study.trials] == pytest.approx([0.0, 0.1, 0.2])
    study.tell(study.ask(), 0.9)
    assert len(folder.read_trials()) == 4


def test_optuna_loads_a_study_from_its_journal_with_the_documented_lines():
    folder = study_of(3)
    storage = JournalStorage(JournalFileBackend(f"runs/{folder.name}/journal.log"))
    loaded = optuna.load_study(study_name=folder.name, storage=storage)
    assert [trial.value for trial in loaded.trials] == pytest.approx([0.0, 0.1, 0.2])


def test_reading_does_not_change_the_journal():
    folder = study_of(3)
    torn = tear(folder)
    assert len(folder.read_trials()) == 3
    assert (folder.path / "journal.log").read_bytes() == torn


def test_a_whole_journal_is_not_cut():
    folder = study_of(2)
    before = (folder.path / "journal.log").read_bytes()
    folder.open_study()
    assert (folder.path / "journal.log").read_bytes().startswith(before)


def test_a_journal_torn_in_its_first_line_is_a_study_without_trials():
    folder = create_study_folder("made")
    (folder.path / "journal.log").write_bytes(b'{"op_code": 0, "wor')
    assert folder.read_trials() == []
    assert folder.open_study().trials == []


def test_results_are_synced_to_disk_and_every_line_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    folder = create_study_folder("made", role="student")
    journal, study = folder.path / "journal.log", folder.open_study()
    trial = study.ask()
    trial.suggest_float("lr", 0, 1)
    trial.set_user_attr("parameters", 1000)
    assert forced == []
    assert journal.read_bytes().endswith(b"\n") and b'"parameters"' in journal.read_bytes()
    trial.report(0.1, 1)
    assert len(forced) == 1
    study.tell(trial, 0.1)
    assert len(forced) == 2


def test_enqueued_trials_are_found_also_when_the_study_is_opened_again():
    folder = create_study_folder("made", role="student")
    study = folder.open_study()
    study.ask()
    study.enqueue_trial({"lr": 0.25})
    study.enqueue_trial({"lr": 0.75})
    assert study.ask().suggest_float("lr", 0, 1) == 0.25
    again = folder.open_study()
    assert again.ask().suggest_float("lr", 0, 1) == 0.75
    assert [again.ask().number for _ in range(2)] == [3, 4]
    again.enqueue_trial({"lr": 0.5})
    assert again.ask().suggest_float("lr", 0, 1) == 0.5


def test_a_study_that_has_not_started_has_no_trials():
    assert create_study_folder("made").read_trials() == []


def test_trials_that_a_kill_left_running_are_found():
    folder = study_of(2)
    folder.open_study().ask()
    assert [trial.number for trial in find_unfinished(folder.read_trials())] == [2]


def test_intermediate_scores_survive():
    assert [dict(trial.intermediate_values) for trial in study_of(2).read_trials()] == [{1: 0.0}, {1: 0.1}]


def test_studies_are_found_by_name_and_listed():
    for name in ("first", "second"):
        create_study_folder(name)
    assert {folder.name for folder in list_studies()} == {"first", "second"}
    assert find_study("second").name == "second"
    with pytest.raises(UnknownChoice, match="'third'; choose from: first, second"):
        find_study("third")


def test_an_update_keeps_the_other_fields_of_the_summary():
    folder = create_study_folder("made", role="student")
    folder.update(state="finished")
    assert (folder.summary["role"], folder.summary["state"]) == ("student", "finished")


def test_trials_are_described_as_the_command_line_lists_them():
    described = describe_trials(study_of(1).read_trials(), {"0": "run"})
    assert described[0].keys() == {"number", "state", "params", "metrics", "run_id"}
    assert (described[0]["number"], described[0]["state"], described[0]["run_id"]) == (0, "complete", "run")


def test_trials_without_training_are_not_listed():
    folder = study_of(2)
    study = folder.open_study()
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)  # for example over the limit of parameters
    assert [trial["number"] for trial in describe_trials(folder.read_trials(), {})] == [0, 1]
