"""The latency that promotion compares depends on neither other load nor the machine."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from ser_platform.evaluation.promotion_gates import Gate, GateInputs, PromotionPolicy, TestPredictions, evaluate_gates
from ser_platform.evaluation.task import Task
from ser_platform.inference import bundle_latency
from ser_platform.inference.bundle_latency import REFERENCE_KERNEL_MS, Latency, measure_latencies
from tests.inference.test_bundle import made_bundle

KERNEL_S = REFERENCE_KERNEL_MS / 1000


@dataclass
class FakeMachine:
    """Replaces the clocks. A call of a model or of the kernel advances them.

    Attributes:
        slowness: CPU time relative to the reference core.
        load: wall time relative to CPU time; a number for each call in turn.
    """

    slowness: float = 1.0
    load: tuple[float, ...] = (1.0,)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    n_calls: int = 0

    def work(self, seconds: float) -> None:
        self.cpu_s += seconds * self.slowness
        self.wall_s += seconds * self.slowness * self.load[self.n_calls % len(self.load)]
        self.n_calls += 1

    def process_time(self) -> float:
        return self.cpu_s

    def perf_counter(self) -> float:
        return self.wall_s


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch):
    """Return a function that measures models of given seconds on a fake machine."""

    def measure(machine: FakeMachine, *models_s: float) -> list[Latency]:
        class FakePredictor:
            def __init__(self, seconds: float) -> None:
                self.seconds = seconds

            def predict_probabilities(self, audio: object) -> None:
                machine.work(self.seconds)

        monkeypatch.setattr(bundle_latency, "Predictor", FakePredictor)
        monkeypatch.setattr(bundle_latency, "time", machine)
        monkeypatch.setattr(bundle_latency, "run_kernel", lambda: machine.work(KERNEL_S))
        return measure_latencies(models_s)

    return measure


def check(candidate: Latency, champion: Latency) -> Gate:
    clips = TestPredictions(("a", "b"), np.array([0, 1]), np.array([0, 1]), np.array(["x", "y"]), np.array(["", ""]))
    inputs = replace(
        GateInputs("ser-student v2", Task((), (), ""), "speaker", clips, None),
        latency_p95_ms=candidate.wall_p95_ms,
        latency_cpu_ms=candidate.cpu_ms,
        champion_latency_cpu_ms=champion.cpu_ms,
    )
    gates = evaluate_gates(inputs, PromotionPolicy(latency_cpu_ms=150, latency_ratio=3))
    return next(gate for gate in gates if gate.name == "latency")


@pytest.mark.parametrize(("candidate_s", "passed"), [(0.140, True), (0.160, False)])
def test_the_verdict_is_the_same_beside_a_busy_process(measure, candidate_s: float, passed: bool):
    idle, busy = FakeMachine(), FakeMachine(load=(1.0, 4.0, 2.0, 9.0))
    alone, beside = (measure(machine, candidate_s, 0.100) for machine in (idle, busy))
    assert beside[0].wall_p95_ms > 2 * alone[0].wall_p95_ms
    assert [each.cpu_ms for each in beside] == pytest.approx([each.cpu_ms for each in alone])
    assert check(*alone).passed is check(*beside).passed is passed


def test_a_core_of_half_the_speed_gives_the_same_cpu_time(measure):
    (slow,) = measure(FakeMachine(slowness=2.0), 0.140)
    assert slow.cpu_ms == pytest.approx(140.0)


def test_only_the_model_that_is_slower_than_the_champion_fails(measure):
    assert check(*measure(FakeMachine(), 0.040, 0.020)).passed
    refused = check(*measure(FakeMachine(load=(3.0,)), 0.040, 0.010))
    assert refused.passed is False and "4.00 times the champion's, at most 3" in refused.detail


def test_a_real_model_takes_time_and_a_missing_one_has_no_latency():
    found, missing = measure_latencies([made_bundle(), None])
    assert missing is None
    assert found is not None and found.cpu_ms > 0 and found.wall_p95_ms > 0
