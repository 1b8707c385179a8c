"""Learning rate schedules, `optimizer.schedule`; the proportions between parameter groups stay constant."""

import math
from functools import partial

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from ser_platform.settings import Settings

ONE_CYCLE_RISE_SHARE = 0.25  # share of the steps in which one_cycle rises
SHORTEST_CYCLE = 8  # steps; one_cycle divides by the length of the rise, which must not be 0


def make_schedule(optimizer: torch.optim.Optimizer, settings: Settings, n_steps: int) -> LRScheduler:
    """Return the schedule of `optimizer` over `n_steps`; the present rates of its groups are the peak rates."""
    name = settings.optimizer.schedule
    if name == "one_cycle":  # Smith & Topin, 2018, arXiv:1708.07120
        peaks = [group["lr"] for group in optimizer.param_groups]
        total = max(n_steps + 1, SHORTEST_CYCLE)
        return OneCycleLR(optimizer, peaks, total_steps=total, pct_start=ONE_CYCLE_RISE_SHARE, cycle_momentum=False)
    if name == "cosine":
        return CosineAnnealingLR(optimizer, n_steps)
    if name == "warmup_cosine":
        rise = settings.optimizer.warmup * n_steps
        return LambdaLR(optimizer, partial(_warmup_cosine, rise=rise, n_steps=n_steps))
    return ConstantLR(optimizer, factor=1.0)


def _warmup_cosine(step: int, rise: float, n_steps: int) -> float:
    """Return the share of the peak rate at `step`, from 0: linear over `rise` steps, then half a cosine."""
    if step < rise:
        return (step + 1) / (rise + 1)  # a rate of 0 would waste the first step
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, n_steps - rise))))
