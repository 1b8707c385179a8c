"""The loss of a student against values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from ser_platform.distillation.student_loss import distillation_loss, make_student_loss
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import Batch


def logits_and_targets(n_clips: int = 8, n_emotions: int = 4, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, n_clips, n_emotions, generator=generator)
    return student, teacher, torch.randint(n_emotions, (n_clips,), generator=generator)


def test_the_loss_equals_a_value_computed_by_hand():
    # At T = 2 the student's probabilities are (1/2, 1/2), the teacher's (4/5, 1/5); the target is class 0.
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(4.0), 0.0]])
    kl = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    expected = 0.25 * math.log(2) + 0.75 * 2**2 * kl
    loss = distillation_loss(student, teacher, torch.tensor([0]), temperature=2.0, alpha=0.75)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_the_teacher_term_is_zero_for_the_teachers_own_logits():
    logits, _, targets = logits_and_targets()
    loss = distillation_loss(logits, logits, targets, temperature=2.0, alpha=1.0)
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)


def test_a_shift_of_all_logits_of_a_clip_changes_nothing():
    student, teacher, targets = logits_and_targets()
    plain = distillation_loss(student, teacher, targets, temperature=3.0, alpha=0.5)
    shifted = distillation_loss(student + 7, teacher - 5, targets, temperature=3.0, alpha=0.5)
    torch.testing.assert_close(plain, shifted)


def test_alpha_zero_is_cross_entropy():
    student, teacher, targets = logits_and_targets()
    loss = distillation_loss(student, teacher, targets, temperature=5.0, alpha=0.0)
    torch.testing.assert_close(loss, F.cross_entropy(student, targets))


def test_alpha_one_ignores_the_targets():
    student, teacher, targets = logits_and_targets()
    one = distillation_loss(student, teacher, targets, temperature=2.0, alpha=1.0)
    other = distillation_loss(student, teacher, (targets + 1) % 4, temperature=2.0, alpha=1.0)
    assert one == other


def test_class_weights_and_smoothing_are_on_the_hard_term_only():
    student, teacher, targets = logits_and_targets()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    how = {"temperature": 2.0, "class_weights": weights, "label_smoothing": 0.1}
    hard = F.cross_entropy(student, targets, weights, label_smoothing=0.1)
    torch.testing.assert_close(distillation_loss(student, teacher, targets, alpha=0.0, **how), hard)
    soft = distillation_loss(student, teacher, targets, temperature=2.0, alpha=1.0)
    torch.testing.assert_close(distillation_loss(student, teacher, targets, alpha=1.0, **how), soft)


def test_the_soft_gradient_is_about_as_large_at_every_temperature():
    norms = []
    for temperature in (2.0, 4.0, 8.0, 16.0):
        student, teacher, targets = logits_and_targets()
        student.requires_grad_()
        distillation_loss(student, teacher, targets, temperature=temperature, alpha=1.0).backward()
        norms.append(float(student.grad.norm()))
    assert max(norms) / min(norms) < 1.5


def test_gradient_descent_converges_to_the_teacher():
    student, teacher, targets = logits_and_targets()
    student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        distillation_loss(student, teacher, targets, temperature=2.0, alpha=1.0).backward()
        optimizer.step()
    torch.testing.assert_close(student.softmax(-1), teacher.softmax(-1), atol=1e-2, rtol=0)


def test_extreme_logits_give_a_finite_loss():
    student, teacher = torch.tensor([[200.0, -200.0]]), torch.tensor([[-200.0, 200.0]])
    loss = distillation_loss(student, teacher, torch.tensor([1]), temperature=1.0, alpha=0.5)
    assert torch.isfinite(loss)


def batch_of(teacher: torch.Tensor | None, targets: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(targets), 1, 1), torch.ones(len(targets), dtype=torch.int64), targets, teacher)


def test_the_loss_of_a_configuration_uses_its_settings():
    student, teacher, targets = logits_and_targets()
    settings = resolve({"distill.alpha": 0.3, "distill.temperature": 4.0, "train.label_smoothing": 0.2})
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = distillation_loss(
        student, teacher, targets, temperature=4.0, alpha=0.3, class_weights=weights, label_smoothing=0.2
    )
    assert make_student_loss(settings, weights)(student, batch_of(teacher, targets)) == expected


def test_a_configuration_without_distillation_needs_no_teacher():
    student, _, targets = logits_and_targets()
    settings = resolve({"distill.alpha": 0.0, "train.label_smoothing": 0.0})
    loss = make_student_loss(settings, None)(student, batch_of(None, targets))
    torch.testing.assert_close(loss, F.cross_entropy(student, targets))


def test_distillation_without_teacher_outputs_fails():
    student, _, targets = logits_and_targets()
    with pytest.raises(AssertionError, match="teacher outputs"):
        make_student_loss(resolve({"distill.alpha": 0.5}), None)(student, batch_of(None, targets))
