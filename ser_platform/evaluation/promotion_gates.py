"""The gates that a candidate passes to become the champion: a pure function of a policy and of measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.lineage import LINEAGE_LEAK_STAMP
from ser_platform.corpora.splits.split import ALL_LEAKS
from ser_platform.errors import UserError
from ser_platform.evaluation.intervals import MIN_SPEAKERS, Interval
from ser_platform.evaluation.task import Task
from ser_platform.metrics import confusion_matrix, recalls, uar

BUNDLE_GATE = "bundle"  # --force does not overrule it
FORMER_LIMITS = {"latency_p95_ms": "latency_cpu_ms"}  # it limited wall time, which depends on other load
LEAK_STAMPS = (*ALL_LEAKS, LINEAGE_LEAK_STAMP)  # each may be part of a protocol's stamp


@dataclass(frozen=True)
class PromotionPolicy:
    """The limits for candidates of one role; a gate whose limit is None is skipped.

    Attributes:
        uar_margin: largest loss of UAR against the champion; the paired interval must exclude a larger one.
        recall_floor: smallest recall of each emotion with at least `recall_clips` test clips.
        sex_gap: largest difference of UAR between sexes with at least `sex_speakers` test speakers each.
        ece: largest expected calibration error, in [0, 1].
        latency_cpu_ms: largest CPU time of a prediction for 3 s of speech on one thread of the reference core, in ms;
            `latency_p95_ms` is its former name.
        latency_ratio: largest ratio of that CPU time to the champion's, measured in the same process.
        size_mb: largest size of the bundle, in megabytes.
    """

    uar_margin: float = 0.05
    recall_floor: float | None = None
    recall_clips: int = 20
    sex_gap: float | None = None
    sex_speakers: int = 5
    ece: float | None = None
    latency_cpu_ms: float | None = None
    latency_ratio: float | None = None
    size_mb: float | None = None

    @classmethod
    def parse(cls, content: Any, where: str) -> "PromotionPolicy":
        """Return the policy in one role's part of a policy file; `where` names that part in messages.

        A limit with a former name has the meaning of its present one. Raises UserError where a limit is unknown, not a
        number, or given by both names; the message names it.
        """
        if not isinstance(content, Mapping):
            raise UserError(f"{where} must be limits, like uar_margin: 0.05; got {content!r}")
        known = [each.name for each in fields(cls)]
        for former, present in FORMER_LIMITS.items():
            if former in content and present in content:
                raise UserError(f"{where}: {former} is the former name of {present}; keep one of them")
        content = {FORMER_LIMITS.get(name, name): value for name, value in content.items()}
        for name, value in content.items():
            if name not in known:
                raise UserError(f"{where}: unknown limit {name!r}; choose from: {', '.join(known)}")
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
            if not is_number and not (value is None and name not in ("uar_margin", "recall_clips", "sex_speakers")):
                raise UserError(f"{where}: {name} must be a number of at least 0; got {value!r}")
        return cls(**content)


@dataclass(frozen=True)
class TestPredictions:
    """Predictions for test clips: classes, speakers and sexes `(n_clips,)`; `probabilities` `(n_clips, n_emotions)`."""

    __test__ = False  # not for pytest

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    predictions: NDArray[np.int64]
    speakers: NDArray[Any]
    sexes: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class GateInputs:
    """Measurements of a candidate, and of the champion if there is one.

    Attributes:
        task: of the candidate; the measurements of the champion are None where its task is another one.
        gain: UAR of the candidate minus that of the champion on the same clips; None without a comparison.
        normalisation: how features are normalised, `features.normalise`.
        champion_task: None without a champion.
        replace_command: the command that replaces a champion of another task, for the message that refuses it.
        is_replacement: whether a champion of another task is to be replaced.
        why_no_gain: the reason why two models of one task cannot be compared; "" without a champion.
        latency_p95_ms: wall time on this machine, which is shown but not compared.
        latency_cpu_ms, champion_latency_cpu_ms: CPU time, converted to the reference core.
        bundle_error: the reason why the bundle cannot be used; "" where it can.
    """

    title: str
    task: Task
    protocol: str
    test_predictions: TestPredictions
    gain: Interval | None
    normalisation: str = ""
    size_mb: float | None = None
    latency_p95_ms: float | None = None
    latency_cpu_ms: float | None = None
    champion_title: str = ""
    champion_task: Task | None = None
    replace_command: str = ""
    is_replacement: bool = False
    champion_protocol: str | None = None
    champion_latency_cpu_ms: float | None = None
    why_no_gain: str = ""
    bundle_error: str = ""

    @property
    def why_not_compared(self) -> str:
        """The reason why the gates that need a champion are skipped; "" where the two are compared."""
        if self.champion_task is None:
            return "first champion"
        return "" if self.champion_task == self.task else "another task, not compared"


@dataclass(frozen=True)
class Gate:
    """The outcome of one condition; `passed` is None where the gate is skipped, which does not prevent promotion."""

    name: str
    passed: bool | None
    detail: str

    @property
    def verdict(self) -> str:
        return {True: "passed", False: "FAILED", None: "skipped"}[self.passed]


def evaluate_gates(inputs: GateInputs, policy: PromotionPolicy) -> list[Gate]:
    """Return the outcome of every gate."""
    return [
        Gate(BUNDLE_GATE, not inputs.bundle_error, inputs.bundle_error or "digests verify, loads, predicts"),
        _check_task(inputs),
        check_split(inputs.protocol),
        _check_normalisation(inputs),
        _check_protocol(inputs),
        _check_uar(inputs, policy),
        _check_recall(inputs.test_predictions, policy),
        _check_sex(inputs.test_predictions, policy),
        _check_calibration(inputs.test_predictions, policy),
        _check_latency(inputs, policy),
        _compare("size", inputs.size_mb, policy.size_mb, "MB"),
    ]


def check_split(protocol: str) -> Gate:
    """Return the gate of the split: it fails where the protocol is stamped with a leak, and names the leak."""
    leaks = ", ".join(sorted(leak for leak in LEAK_STAMPS if leak in protocol))
    return Gate("split", not leaks, f"{leaks}: its test figures are not valid for new speakers" if leaks else protocol)


def expected_calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64], n_bins: int = 10) -> float:
    """Return the mean over clips of |confidence - accuracy| in their bin, in [0, 1]; bins have equal width.

    `probabilities` are `(n_clips, n_emotions)`, `truth` classes `(n_clips,)`. Few clips bias it upwards.
    Source: Guo, Pleiss, Sun & Weinberger (2017), arXiv:1706.04599, equation 3.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    distance = np.abs(np.bincount(bins, confidence, n_bins) - np.bincount(bins, right, n_bins))
    return float(distance[counts > 0].sum() / len(truth))


def _check_task(inputs: GateInputs) -> Gate:
    """Return the gate of the task, which fails for another task than the champion's unless it may be replaced.

    A champion that was trained on synthetic speech may be replaced by a candidate that was trained on real speech.
    """
    champion = f"the champion {inputs.champion_title}"
    if inputs.champion_task is None:
        return Gate("task", None, inputs.why_not_compared)
    if not inputs.why_not_compared:
        note = ", so that --replace has no effect" if inputs.is_replacement else ""
        return Gate("task", True, f"that of {champion}{note}")
    detail = f"{inputs.why_not_compared}: {inputs.task.describe_difference(inputs.champion_task)}"
    if inputs.champion_task.is_synthetic and not inputs.task.is_synthetic:
        named = "+".join(inputs.champion_task.corpora)
        return Gate("task", None, f"{detail}; {champion} is replaced: it was trained on synthetic speech ({named})")
    if inputs.is_replacement:
        return Gate("task", None, f"{detail}; {champion} is replaced by --replace")
    return Gate("task", False, f"{detail}; to replace {champion}: {inputs.replace_command}")


def _check_normalisation(inputs: GateInputs) -> Gate:
    by_speaker = inputs.normalisation == "speaker"
    detail = "by speaker: it needs other clips of the same speaker" if by_speaker else inputs.normalisation
    return Gate("normalisation", not by_speaker, detail)


def _check_protocol(inputs: GateInputs) -> Gate:
    if inputs.champion_protocol is None:
        return Gate("protocol", None, f"{inputs.protocol}; {inputs.why_not_compared}")
    same = inputs.protocol == inputs.champion_protocol
    return Gate("protocol", same, inputs.protocol + ("" if same else f", the champion's is {inputs.champion_protocol}"))


def _check_uar(inputs: GateInputs, policy: PromotionPolicy) -> Gate:
    gain = inputs.gain
    if gain is None:
        if not inputs.why_no_gain:
            return Gate("UAR", None, inputs.why_not_compared)
        return Gate("UAR", False, f"{inputs.why_no_gain}; without a comparison it takes --force --reason TEXT")
    detail = f"gain {gain.value:+.3f}, interval {gain.low:+.3f} to {gain.high:+.3f}"
    detail += f" ({gain.caveat})" if gain.caveat else ""
    if gain.low < -policy.uar_margin:
        worse = f"{inputs.title} may be {-gain.low:.3f} worse than the champion ({detail})"
        return Gate("UAR", False, f"{worse}; at most {policy.uar_margin:.3f} is allowed")
    weak = f"; weak evidence ({gain.n_speakers} speakers)" if gain.n_speakers < MIN_SPEAKERS else ""
    return Gate("UAR", True, detail + weak)


def _check_recall(clips: TestPredictions, policy: PromotionPolicy) -> Gate:
    matrix = confusion_matrix(clips.targets, clips.predictions, len(clips.labels))
    enough = np.flatnonzero(matrix.sum(axis=1) >= policy.recall_clips)
    if policy.recall_floor is None or not len(enough):
        why = "no limit" if policy.recall_floor is None else f"no emotion has {policy.recall_clips} test clips"
        return Gate("recall", None, why)
    found = recalls(matrix)[enough]
    listed = ", ".join(f"{clips.labels[row]} {value:.2f}" for row, value in zip(enough, found, strict=True))
    return Gate(
        "recall", bool((found >= policy.recall_floor).all()), f"{listed}; each at least {policy.recall_floor:g}"
    )


def _check_sex(clips: TestPredictions, policy: PromotionPolicy) -> Gate:
    if policy.sex_gap is None:
        return Gate("sexes", None, "no limit")
    groups = {sex: clips.sexes == sex for sex in sorted({str(sex) for sex in clips.sexes if sex})}
    counts = {sex: len(set(clips.speakers[rows])) for sex, rows in groups.items()}
    enough = [sex for sex in groups if counts[sex] >= policy.sex_speakers]
    if len(enough) < 2:
        listed = ", ".join(f"{sex} {count}" for sex, count in counts.items()) or "not known"
        return Gate("sexes", None, f"{policy.sex_speakers} test speakers of each are needed; there are: {listed}")
    values = {sex: uar(clips.targets[groups[sex]], clips.predictions[groups[sex]], len(clips.labels)) for sex in enough}
    gap = max(values.values()) - min(values.values())
    listed = ", ".join(f"{sex} {value:.3f}" for sex, value in values.items())
    return Gate("sexes", gap <= policy.sex_gap, f"UAR {listed}; {gap:.3f} apart, at most {policy.sex_gap:g}")


def _check_calibration(clips: TestPredictions, policy: PromotionPolicy) -> Gate:
    if clips.probabilities is None:
        return Gate("calibration", None, "its test predictions have no probabilities")
    return _compare("calibration", expected_calibration_error(clips.probabilities, clips.targets), policy.ece, "ECE")


def _check_latency(inputs: GateInputs, policy: PromotionPolicy) -> Gate:
    here, there = inputs.latency_cpu_ms, inputs.champion_latency_cpu_ms
    gate = _compare("latency", here, policy.latency_cpu_ms, "ms of CPU time for 3 s on the reference core")
    if here is None:
        return gate
    passed, detail = gate.passed, gate.detail
    if passed is not False and policy.latency_ratio is not None and there is not None:
        passed = here / there <= policy.latency_ratio
        detail += f"; {here / there:.2f} times the champion's, at most {policy.latency_ratio:g}"
    if inputs.latency_p95_ms is not None:
        detail += f"; {inputs.latency_p95_ms:.1f} ms of wall time here (95 %), not compared"
    return Gate("latency", passed, detail)


def _compare(name: str, value: float | None, limit: float | None, unit: str) -> Gate:
    if value is None:
        return Gate(name, None, "not measured")
    if limit is None:
        return Gate(name, None, f"{value:.3g} {unit}; no limit")
    return Gate(name, value <= limit, f"{value:.3g} {unit}, at most {limit:g}")
