"""The gates are a pure function of measurements and a policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ser_platform.errors import UserError
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.promotion_gates import (
    Gate,
    GateInputs,
    PromotionPolicy,
    TestPredictions,
    check_split,
    evaluate_gates,
    expected_calibration_error,
)
from ser_platform.evaluation.task import Task

SHIPPED = Path(__file__).resolve().parents[2] / "mlflow" / "promotion_policy.yaml"
ALL = PromotionPolicy(
    recall_floor=0.5,
    recall_clips=2,
    sex_gap=0.2,
    sex_speakers=2,
    ece=0.3,
    latency_cpu_ms=50,
    latency_ratio=2,
    size_mb=1,
)
REAL = Task(("emodb",), ("anger", "joy"), "speaker")
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def clips(predicted: list[int], sexes: str = "fmfmfmfm", speakers: str = "abcdabcd", **more) -> TestPredictions:
    return TestPredictions(
        ("anger", "joy"), TRUTH, np.array(predicted), np.array(list(speakers)), np.array(list(sexes)), **more
    )


def facts(**changes) -> GateInputs:
    good = GateInputs(
        "ser-student v2",
        REAL,
        "speaker",
        clips([0, 0, 0, 0, 1, 1, 1, 1]),
        Interval(0.02, -0.03, 0.07, 24, "speakers"),
        normalisation="global",
        size_mb=0.5,
        latency_p95_ms=30.0,
        latency_cpu_ms=20.0,
        champion_title="ser-student v1",
        champion_task=REAL,
        replace_command="ser models promote ser-student --replace",
        champion_protocol="speaker",
        champion_latency_cpu_ms=15.0,
    )
    return replace(good, **changes)


def gate(name: str, policy: PromotionPolicy = ALL, **changes) -> Gate:
    return next(each for each in evaluate_gates(facts(**changes), policy) if each.name == name)


def test_a_good_candidate_passes_every_gate():
    assert [each.name for each in evaluate_gates(facts(), ALL) if each.passed is not True] == ["calibration"]
    assert gate("calibration").detail == "its test predictions have no probabilities"


def test_an_interval_that_reaches_beyond_the_margin_is_refused_with_figures():
    found = gate("UAR", gain=Interval(0.01, -0.08, 0.10, 24, "speakers"))
    assert found.passed is False
    assert "0.080 worse" in found.detail and "0.050" in found.detail


@pytest.mark.parametrize(("speakers", "weak"), [(2, True), (7, True), (8, False)])
def test_few_speakers_are_called_weak_evidence(speakers: int, weak: bool):
    found = gate("UAR", gain=Interval(0.0, 0.0, 0.0, speakers, "clips" if weak else "speakers"))
    assert found.passed and ("weak evidence" in found.detail) == weak


def test_a_first_champion_is_not_compared():
    first = facts(gain=None, champion_task=None, champion_protocol=None, champion_latency_cpu_ms=None)
    verdicts = {each.name: each.verdict for each in evaluate_gates(first, ALL)}
    assert (verdicts["UAR"], verdicts["protocol"], verdicts["latency"]) == ("skipped", "skipped", "passed")


def test_a_champion_that_cannot_be_compared_fails_the_gate():
    found = gate("UAR", gain=None, why_no_gain="ser-student v1 was tested on other clips")
    way_out = "without a comparison it takes --force --reason TEXT"
    assert found == Gate("UAR", False, f"ser-student v1 was tested on other clips; {way_out}")


def test_another_protocol_is_refused():
    assert gate("protocol", champion_protocol="loso").detail == "speaker, the champion's is loso"
    assert gate("protocol", champion_protocol="loso").passed is False


def not_compared(champion_task: Task, **changes) -> list[Gate]:
    """Return the gates for a champion of another task, which is not measured."""
    unmeasured = {"gain": None, "champion_protocol": None, "champion_latency_cpu_ms": None}
    return evaluate_gates(facts(champion_task=champion_task, **unmeasured, **changes), ALL)


def failed(gates: list[Gate]) -> list[str]:
    return [each.name for each in gates if each.passed is False]


def test_another_task_is_refused_with_the_command_that_replaces_the_champion():
    gates = not_compared(replace(REAL, corpora=("ravdess",)))
    assert failed(gates) == ["task"]
    assert gates[1].detail == (
        "another task, not compared: corpus emodb, not ravdess; to replace the champion ser-student v1: "
        "ser models promote ser-student --replace"
    )


def test_a_replacement_of_another_task_skips_the_comparison_and_no_other_gate():
    gates = not_compared(replace(REAL, corpora=("ravdess",)), is_replacement=True)
    assert not failed(gates)
    skipped = {each.name: each.detail for each in gates if each.passed is None}
    assert skipped.keys() == {"task", "protocol", "UAR", "calibration"}
    assert skipped["UAR"] == "another task, not compared"
    assert skipped["task"].endswith("the champion ser-student v1 is replaced by --replace")
    leaky = not_compared(
        replace(REAL, corpora=("ravdess",)), is_replacement=True, protocol="random (speakers overlap)", size_mb=2.0
    )
    assert failed(leaky) == ["split", "size"]


def test_a_champion_of_synthetic_speech_is_replaced_by_a_candidate_of_real_speech():
    gates = not_compared(Task(("demo",), ("anger", "calm"), "speaker"))
    assert not failed(gates)
    assert gates[1].detail.endswith(
        "the champion ser-student v1 is replaced: it was trained on synthetic speech (demo)"
    )
    assert failed(not_compared(Task(("demo",), ("anger",), "speaker"), size_mb=2.0)) == ["size"]


def test_a_candidate_of_synthetic_speech_replaces_no_champion_of_real_speech():
    demo = replace(REAL, corpora=("demo",))
    assert failed(not_compared(REAL, task=demo)) == ["task"]
    assert failed(not_compared(replace(demo, protocol="loso"), task=demo)) == ["task"], "both synthetic"


def test_models_of_one_task_are_compared_also_with_the_option_replace():
    worse = Interval(-0.1, -0.2, 0.0, 24, "speakers")
    found = evaluate_gates(facts(gain=worse, is_replacement=True), ALL)
    assert failed(found) == ["UAR"]
    assert found[1] == Gate("task", True, "that of the champion ser-student v1, so that --replace has no effect")


def test_a_split_without_leak_passes():
    assert check_split("speaker_kfold:5 fold 2/5").passed


@pytest.mark.parametrize(
    ("protocol", "leak"),
    [
        ("random (speakers overlap)", "speakers overlap"),
        ("speaker (lineage leak: its warm start was trained on 3 dev or test clips)", "lineage leak"),
        ("random (speakers overlap) (lineage leak: 3 clips)", "lineage leak, speakers overlap"),
    ],
)
def test_a_split_that_leaks_is_refused_with_the_name_of_the_leak(protocol: str, leak: str):
    leaky = gate("split", protocol=protocol)
    assert leaky.passed is False and leaky.detail.startswith(f"{leak}: ")


def test_every_emotion_with_enough_clips_must_reach_the_floor():
    assert gate("recall", test_predictions=clips([0, 0, 1, 1, 1, 1, 1, 1])).passed
    low = gate("recall", test_predictions=clips([0, 1, 1, 1, 1, 1, 1, 1]))
    assert low.passed is False and "anger 0.25, joy 1.00; each at least 0.5" in low.detail
    assert gate("recall", replace(ALL, recall_clips=5), test_predictions=clips([1] * 8)).verdict == "skipped"


def test_sexes_are_compared_where_each_has_enough_speakers():
    apart = clips([0, 1, 0, 1, 1, 0, 1, 0])  # f all right, m all wrong
    assert gate("sexes", test_predictions=apart).passed is False
    assert "f 1.000, m 0.000; 1.000 apart" in gate("sexes", test_predictions=apart).detail
    few = gate("sexes", replace(ALL, sex_speakers=3), test_predictions=apart)
    assert few.passed is None and few.detail == "3 test speakers of each are needed; there are: f 2, m 2"
    unknown = gate("sexes", test_predictions=replace(apart, sexes=np.array([""] * 8)))
    assert unknown.passed is None and unknown.detail.endswith("there are: not known")


def test_calibration_error_equals_a_hand_computed_value():
    # Two clips of confidence .9, one right: |1.8 - 1|; two of .6, both right: |1.2 - 2|; over four clips.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    truth = np.array([0, 1, 0, 0])
    assert expected_calibration_error(probabilities, truth) == pytest.approx((0.8 + 0.8) / 4)
    sure = np.tile([[0.99, 0.01]], (8, 1))
    assert gate("calibration", test_predictions=clips([0] * 8, probabilities=sure)).passed is False


def test_size_and_latency_above_their_limits_fail():
    assert gate("size", size_mb=1.2).detail == "1.2 MB, at most 1"
    assert gate("size", size_mb=1.2).passed is False
    assert gate("latency", latency_cpu_ms=60.0).passed is False
    slower = gate("latency", latency_cpu_ms=40.0)
    assert slower.passed is False and "2.67 times the champion's, at most 2" in slower.detail
    assert gate("latency", replace(ALL, latency_cpu_ms=None, latency_ratio=None)).verdict == "skipped"


def test_wall_time_is_shown_but_not_compared():
    slow = gate("latency", latency_p95_ms=9000.0)
    assert slow.passed and slow.detail.endswith("9000.0 ms of wall time here (95 %), not compared")


def test_a_latency_limit_by_its_former_name_limits_cpu_time():
    assert PromotionPolicy.parse({"latency_p95_ms": 50}, "policy").latency_cpu_ms == 50
    with pytest.raises(UserError, match="former name of latency_cpu_ms; keep one"):
        PromotionPolicy.parse({"latency_p95_ms": 50, "latency_cpu_ms": 50}, "policy")


def test_a_model_that_needs_other_clips_of_the_speaker_fails():
    assert gate("normalisation", normalisation="speaker").passed is False


def test_a_damaged_bundle_fails_and_is_not_measured():
    found = facts(bundle_error="model.safetensors was altered", size_mb=None, latency_cpu_ms=None)
    gates = {each.name: each for each in evaluate_gates(found, ALL)}
    assert gates["bundle"] == Gate("bundle", False, "model.safetensors was altered")
    assert gates["size"].detail == gates["latency"].detail == "not measured"


@pytest.mark.parametrize("name", ["ser-student", "ser-teacher"])
def test_the_shipped_policy_can_be_read(name):
    policy = PromotionPolicy.parse(yaml.safe_load(SHIPPED.read_text())[name], name)
    assert policy.uar_margin == 0.05 and policy.recall_floor is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"uar_margn": 0.1}, "unknown limit 'uar_margn'; choose from: uar_margin, recall_floor"),
        ({"ece": "low"}, "ece must be a number of at least 0; got 'low'"),
        ({"size_mb": -1}, "size_mb must be a number of at least 0; got -1"),
        ({"uar_margin": None}, "uar_margin must be a number"),
        ([0.05], "must be limits, like uar_margin"),
    ],
)
def test_a_policy_with_a_mistake_is_refused_by_name(content, message):
    with pytest.raises(UserError, match=message):
        PromotionPolicy.parse(content, "policy.yaml, ser-student")
