"""The metrics that trials report, for objectives and constraints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEFORE_TRAINING, EACH_EPOCH, AT_END = "configuration", "epoch", "end"


@dataclass(frozen=True)
class TrialMetric:
    """The better direction of a metric, and when it is known: BEFORE_TRAINING, EACH_EPOCH or AT_END."""

    direction: str
    known_at: str


TRIAL_METRICS = {
    "dev_uar": TrialMetric("maximize", EACH_EPOCH),  # best unweighted average recall on dev speakers so far
    "dev_war": TrialMetric("maximize", EACH_EPOCH),  # weighted average recall in the epoch of the best dev UAR
    "dev_macro_f1": TrialMetric("maximize", EACH_EPOCH),  # macro-averaged F1 in the epoch of the best dev UAR
    "dev_loss": TrialMetric("minimize", EACH_EPOCH),  # cross-entropy in the epoch of the best dev UAR
    "parameters": TrialMetric("minimize", BEFORE_TRAINING),  # trainable parameters
    "size_kb": TrialMetric("minimize", BEFORE_TRAINING),  # kilobytes of the weights in float32
    "macs": TrialMetric("minimize", BEFORE_TRAINING),  # multiply-accumulates on the longest input of the model
    "forward_ms": TrialMetric("minimize", AT_END),  # milliseconds of a forward pass on the longest clip, one thread
    "train_seconds": TrialMetric("minimize", AT_END),  # seconds of training
}
FORMER_NAMES = {"latency_ms": "forward_ms"}  # of version 0.1; a version's `latency_ms` is of a whole prediction


def rename_former(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping by metric, in which metrics of version 0.1 have their present names."""
    return {FORMER_NAMES.get(name, name): value for name, value in metrics.items()}
