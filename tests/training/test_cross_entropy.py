"""The losses of a batch's parts add up to that of the batch, and so do their gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.models import build_model
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import Batch
from ser_platform.training.batches.batch_augmentation import mixup
from ser_platform.training.cross_entropy import cross_entropy
from ser_platform.training.train_step import train_step
from ser_platform.training.workers import distribute_clips

WEIGHTS = torch.tensor([0.2, 1.0, 3.0])
LOSSES = {
    "weights": {},
    "weights and smoothing": {"train.label_smoothing": 0.2},
    "a teacher": {"distill.alpha": 0.4},
    "a teacher only": {"distill.alpha": 1.0},
    "standardised logits": {"distill.alpha": 0.5, "distill.loss": "kl_standardised"},
    "squared logits": {"distill.alpha": 0.5, "distill.loss": "mse"},
}


def batch_of(n_clips: int = 11, n_frames: int = 40, mixed: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(n_frames // 2, n_frames + 1, (n_clips,), generator=generator)
    features = torch.randn(n_clips, n_frames, 5, generator=generator)
    features *= (torch.arange(n_frames) < lengths[:, None])[:, :, None]
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2])[:n_clips]
    batch = Batch(features, lengths, targets, torch.randn(n_clips, 3, generator=generator))
    return mixup(batch, 0.5, 3, 2.0, np.random.default_rng(0)) if mixed else batch


def parts_of(batch: Batch, n_parts: int) -> list[Batch]:
    return [batch.select_rows(rows) for rows in distribute_clips(batch.lengths.numpy(), n_parts)]


@pytest.mark.parametrize("n_parts", [2, 3, 5])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("changes", LOSSES.values(), ids=LOSSES)
def test_the_gradient_of_parts_is_that_of_the_batch(changes, weights, mixed, n_parts):
    settings = resolve({"model.name": "bilstm", "model.hidden_size": 8, "model.dropout": 0, "model.subsample": 2})
    loss = make_student_loss(settings.with_overrides(changes), weights)
    gradients = []
    for split in (False, True):
        torch.manual_seed(0)
        model = build_model(settings, 5, 3)
        batch = batch_of(mixed=mixed)
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        loss_of_step = train_step(model, parts_of(batch, n_parts) if split else [batch], loss, still, max_norm=1e6)
        gradients.append(torch.cat([loss_of_step[None], *(p.grad.flatten() for p in model.parameters())]))
    assert gradients[0][1:].abs().max() > 1e-2
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=0)


def test_the_mean_over_parts_is_not_the_loss_of_the_batch():
    # Division by each part's own weights is wrong by more than 5 %.
    batch = replace(batch_of(), targets=torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]))
    logits = torch.randn(11, 3, generator=torch.Generator().manual_seed(1))
    whole = cross_entropy(logits, batch.targets, WEIGHTS, 0.0)
    halves = [(logits[rows], batch.targets[rows]) for rows in (slice(0, 6), slice(6, 11))]
    exact = sum(cross_entropy(*half, WEIGHTS, 0.0, batch.targets) for half in halves)
    wrong = sum(cross_entropy(*half, WEIGHTS, 0.0) for half in halves) / 2
    torch.testing.assert_close(exact, whole)
    assert abs(wrong - whole) > 0.05 * whole


def test_a_step_without_a_clip_changes_nothing():
    settings = resolve({"model.name": "bilstm", "model.hidden_size": 8})
    model = build_model(settings, 5, 3)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters())
    assert train_step(model, [], make_student_loss(settings, None), optimizer, 1.0) == 0
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_part_is_padded_no_further_than_its_longest_clip():
    batch = batch_of()
    rows = np.argsort(batch.lengths.numpy())[:3]
    part = batch.select_rows(rows)
    assert part.features.shape == (3, int(batch.lengths[rows].max()), 5)
    assert torch.equal(part.targets, batch.targets[rows]) and torch.equal(
        part.teacher_logits, batch.teacher_logits[rows]
    )
    assert torch.equal(part.full_batch_targets, batch.targets)
