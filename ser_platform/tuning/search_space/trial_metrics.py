"""What a trial can be judged by, as an objective or under a constraint."""

from dataclasses import dataclass

CONFIGURATION, EPOCH, END = "configuration", "epoch", "end"


@dataclass(frozen=True)
class Measure:
    """A figure of a trial. `known` from its configuration alone, after each epoch, or at its end."""

    direction: str
    known: str
    help: str


MEASURES = {
    "dev_uar": Measure("maximize", EPOCH, "best unweighted average recall on dev speakers so far"),
    "dev_war": Measure("maximize", EPOCH, "weighted average recall in the epoch of the best dev UAR"),
    "dev_macro_f1": Measure("maximize", EPOCH, "macro-averaged F1 in the epoch of the best dev UAR"),
    "dev_loss": Measure("minimize", EPOCH, "cross-entropy in the epoch of the best dev UAR"),
    "parameters": Measure("minimize", CONFIGURATION, "trainable parameters"),
    "size_kb": Measure("minimize", CONFIGURATION, "kilobytes of the weights in float32"),
    "macs": Measure("minimize", CONFIGURATION, "multiply-accumulates on the longest clip that the model hears"),
    "latency_ms": Measure("minimize", END, "milliseconds of a forward pass on the longest clip, one thread"),
    "train_seconds": Measure("minimize", END, "seconds of training"),
}
