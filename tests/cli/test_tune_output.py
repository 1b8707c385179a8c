"""The verdict that `ser tune` ends with."""

from types import SimpleNamespace
from typing import Any

import pytest

from ser_platform.cli.tune import _print_result
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.paired_gain import ArmComparison
from ser_platform.settings import resolve
from ser_platform.tracking.registry import RegisteredVersion
from ser_platform.workflows.distillation_control import ComparisonRow, ControlResult

TEST = {"test_uar": 0.659, "test_uar_low": 0.551, "test_uar_high": 0.702, "test_speakers": 2.0}


def make_version(name: str, version: str, dev_uar: float) -> RegisteredVersion:
    metrics = {"dev_uar_new_seeds": dev_uar} | TEST
    return RegisteredVersion(name, version, (), "", {"metrics": str(metrics).replace("'", '"'), "test_looks": "12"})


def make_study(role: str, version: RegisteredVersion, **settings: Any) -> Any:
    winner = SimpleNamespace(settings=[resolve(settings)], median_run=0, mean_dev_uar=version.dev_uar)
    return SimpleNamespace(
        study_name=f"{role}_pretrained-emodb-1201-132352-c3b3",
        role=role,
        winner=winner,
        n_parameters=20_662_272,
        model=version,
        is_new_version=True,
        test_score=SimpleNamespace(metrics=TEST),
        n_test_evaluations=12,
    )


TEACHER = make_version("ser-teacher", "1", 0.931)
DISTILLED, UNDISTILLED = make_version("ser-student", "1", 0.712), make_version("ser-student", "2", 0.689)
STUDIES = [
    make_study("teacher", TEACHER, **{"model.name": "pretrained", "model.backbone": "openai-whisper-base.en@abc"}),
    make_study("student", DISTILLED, **{"model.name": "ridge", "distill.alpha": 0.9, "distill.temperature": 4.0}),
    make_study("student", UNDISTILLED, **{"model.name": "ridge", "distill.alpha": 0.0}),
]


def make_control() -> ControlResult:
    def make_row(name: str, model: str, title: str, value: float) -> ComparisonRow:
        uar = Interval(value, value - 0.07, value + 0.05, 10, "speakers")
        return ComparisonRow(name, model, title, uar, 0.7, 20_662_272, 80_000_000, 123.4)

    rows = (
        make_row("teacher", "pretrained", "ser-teacher v1", 0.929),
        make_row("undistilled", "ridge", "ser-student v2", 0.687),
        make_row("distilled", "ridge", "ser-student v1", 0.704),
    )
    gain = ArmComparison(rows[1].uar, rows[2].uar, Interval(0.016, -0.015, 0.062, 10, "speakers"), 3)
    return ControlResult(STUDIES[1].study_name, "speaker, 5 folds, 3 seeds an arm", rows, gain, 5)


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as into a log: a test process can have the width of a narrow terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


def print_result(capsys: pytest.CaptureFixture[str], candidates: list[RegisteredVersion], *controls: Any) -> list[str]:
    """Return the printed lines of a tuning of the three studies."""
    corpus = SimpleNamespace(name="emodb", split=SimpleNamespace(protocol_stamp="speaker"))
    baseline = SimpleNamespace(metrics=TEST | {"test_uar": 0.473})
    tuned: Any = SimpleNamespace(
        corpus=corpus, study_results=STUDIES, controls=controls, candidates=candidates, baseline=baseline, seconds=243.0
    )
    _print_result(tuned)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("controls", [(), (make_control(),)])
def test_the_verdict_is_at_most_25_lines_of_100_columns(
    controls: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = print_result(capsys, [TEACHER, DISTILLED], *controls)
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("Leaderboard") for line in lines) == 1


def test_with_a_control_the_leaderboard_has_its_pooled_figures_and_the_test_figure_is_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = print_result(capsys, [TEACHER, DISTILLED], make_control())
    assert lines[0].rstrip() == "Leaderboard: emodb, 10 speakers, UAR in percent (speaker, 5 folds, 3 seeds an arm)"
    table = lines[: lines.index("distillation: +1.6 UAR [-1.5, +6.2]: no sure gain, the interval holds 0")]
    rows = [line for line in table if "ser-" in line]
    assert [row.split()[0] for row in rows] == ["teacher", "undistilled", "distilled"]
    assert "70.4 [63.4, 75.4]" in rows[2]
    own = "  its own test UAR: 65.9 [55.1, 70.2] these 2 speakers only, test evaluation 12"
    assert lines.count(own) == 2 and own not in table
    assert "reference, linear SVM on pooled features: test UAR 47.3 [55.1, 70.2] these 2 speakers only" in lines
    assert "registered ser-student version 1: ridge, alpha 0.9 T 4" in lines
    assert "report: runs/student_pretrained-emodb-1201-132352-c3b3/report/index.html" in lines


def test_one_line_names_the_candidate_and_the_dev_uar_that_decided(capsys: pytest.CaptureFixture[str]) -> None:
    lines = print_result(capsys, [TEACHER, DISTILLED])
    assert "candidate ser-teacher version 1, by dev UAR: 93.1" in lines
    assert "candidate ser-student version 1, by dev UAR: 71.2, version 2 has 68.9" in lines


def test_of_two_students_with_the_same_dev_uar_the_newer_is_the_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    lines = print_result(capsys, [make_version("ser-student", "3", 0.712)])
    equal = (
        "candidate ser-student version 3 of an earlier run, by dev UAR: 71.2, version 1 has 71.2, version 2 has 68.9"
    )
    assert f"{equal}; the newer of equals" in lines


def test_a_candidate_of_an_earlier_run_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    lines = print_result(capsys, [TEACHER, make_version("ser-student", "7", 0.8)])
    expected = (
        "candidate ser-student version 7 of an earlier run, by dev UAR: 80.0, version 1 has 71.2, version 2 has 68.9"
    )
    assert expected in lines
