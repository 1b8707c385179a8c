"""The result of an epoch of training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """One epoch: losses in nats; UAR, WAR and F1 in [0, 1]; NaN without dev clips; `seconds` includes evaluation."""

    epoch: int
    train_loss: float
    dev_loss: float
    dev_uar: float
    dev_war: float
    dev_macro_f1: float
    best_dev_uar: float
    best_epoch: int
    seconds: float
