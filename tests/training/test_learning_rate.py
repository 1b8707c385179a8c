"""Learning rate schedules follow the settings, for each group from its own peak."""

import math

import pytest
import torch

from ser_platform.settings import resolve
from ser_platform.training.learning_rate import make_schedule


def rates(n_steps: int, peaks: tuple[float, ...] = (1.0,), **changes) -> list[tuple[float, ...]]:
    """Return the learning rate of each group in every step."""
    settings = resolve({f"optimizer.{name}": value for name, value in changes.items()})
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.AdamW(groups)
    schedule = make_schedule(optimizer, settings, n_steps)
    seen = []
    for _ in range(n_steps):
        seen.append(tuple(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        schedule.step()
    return seen


def test_warmup_cosine_rises_linearly_and_falls_as_a_cosine():
    seen = [rate for (rate,) in rates(20, schedule="warmup_cosine", warmup=0.2)]
    assert seen[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert seen[12] == pytest.approx(0.5)  # half of the 16 steps that it falls
    assert seen[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_without_warmup_warmup_cosine_is_cosine():
    warmup = [rate for (rate,) in rates(20, schedule="warmup_cosine", warmup=0.0)]
    cosine = [rate for (rate,) in rates(20, schedule="cosine")]
    assert warmup == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "warmup_cosine", "constant"])
def test_groups_keep_the_proportion_of_their_rates(schedule):
    seen = rates(40, peaks=(1.0, 0.02, 0.0), schedule=schedule)
    assert max(head for head, _, _ in seen) == pytest.approx(1.0, rel=0.01)
    for head, backbone, frozen in seen:
        assert backbone == pytest.approx(0.02 * head)
        assert frozen == 0


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.9])
def test_a_warmup_of_a_few_steps_has_valid_rates(n_steps, warmup):
    assert all(0 < rate <= 1 for (rate,) in rates(n_steps, schedule="warmup_cosine", warmup=warmup))
