"""The time line of a study shows its phases and its trials by slot."""

import re
import time
from pathlib import Path

from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.report.timeline import assign_slots, draw_timeline, list_phases
from ser_platform.tuning.study.study_folder import StudyFolder
from tests.tuning.report.test_study_report import make_study


def test_each_trial_is_in_the_first_slot_that_is_free_at_its_start() -> None:
    assert assign_slots([(0, 10), (0, 4), (4, 6), (7, 12), (10, 11)]) == [0, 1, 1, 1, 0]
    assert assign_slots([]) == []


def test_phases_are_listed_in_the_order_of_their_start_with_the_searches_that_ended() -> None:
    summary = {"searches": [[5.0, 9.0], [20.0, None]], "phases": [["test", 12.0, 13.0], ["fold teachers", 1.0, 4.0]]}
    summary["phases"].append(["nothing to do", 4.0, 4.01])
    assert list_phases(summary) == [("fold teachers", 1.0, 4.0), ("search", 5.0, 9.0), ("test", 12.0, 13.0)]


def test_the_start_and_the_end_of_a_phase_are_stored_even_if_it_fails(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "made")
    folder.path.mkdir()
    folder.update(state="running")
    before = time.time()
    with folder.time_phase("first"):
        pass
    try:
        with folder.time_phase("second"):
            raise ValueError
    except ValueError:
        pass
    (first, *spans), (second, *_) = folder.summary["phases"]
    assert (first, second) == ("first", "second")
    assert before <= spans[0] <= spans[1] <= time.time()


def test_the_figure_has_a_row_for_each_phase_and_slot(tmp_path: Path) -> None:
    folder = make_study(tmp_path, 3)
    trials = folder.read_trials()
    began = min(trial.datetime_start.timestamp() for trial in trials if trial.datetime_start)
    figure = draw_timeline([("search", began, began + 9), ("test", began + 9, began + 12)], trials)
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["search", "test", "slot 1"]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == 12
    assert draw_timeline([], []) is None


def test_the_report_of_a_study_holds_its_time_line(tmp_path: Path) -> None:
    _, page = write_report(make_study(tmp_path, 3))
    assert (page.parent / "timeline.png").exists()
    assert re.search("<figcaption>Phases of the study, and trials by slot<", page.read_text())
