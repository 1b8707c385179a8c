"""Each teacher term against values computed by hand and against equivalent terms."""

import math

import pytest
import torch
import torch.nn.functional as F

from ser_platform.distillation.student_loss import distillation_loss, make_student_loss
from ser_platform.distillation.teacher_terms import TERMS, dkd, kl, kl_standardised, mse
from ser_platform.errors import UserError
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import Batch
from ser_platform.training.configuration import refuse_contradictions
from ser_platform.tuning.search_space.registered_names import REGISTRIES

LOG = math.log


def logits_and_targets(n_clips: int = 16, n_emotions: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = 2 * torch.randn(2, n_clips, n_emotions, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(n_emotions, (n_clips,), generator=generator)


def test_the_settings_offer_every_term() -> None:
    assert REGISTRIES["distill.loss"] == tuple(TERMS)


def test_decoupled_distillation_equals_a_value_computed_by_hand() -> None:
    # T = 2; the teacher's probabilities are (1/2, 1/4, 1/4), the student's (1/4, 1/4, 1/2); the target is class 0.
    teacher = torch.tensor([[2 * LOG(2), 0.0, 0.0]])
    student = torch.tensor([[0.0, 0.0, 2 * LOG(2)]])
    target_term = 0.5 * LOG(0.5 / 0.25) + 0.5 * LOG(0.5 / 0.75)
    others = 0.5 * LOG(0.5 / (1 / 3)) + 0.5 * LOG(0.5 / (2 / 3))
    expected = torch.tensor([4 * (target_term + 8 * others)])
    torch.testing.assert_close(dkd(student, teacher, torch.tensor([0]), 2.0, 8.0), expected)


def test_decoupled_distillation_weighted_by_the_teachers_uncertainty_is_the_divergence() -> None:
    student, teacher, targets = logits_and_targets()
    for temperature in (1.0, 4.0):
        doubt = 1 - (teacher / temperature).softmax(-1).gather(1, targets[:, None])[:, 0]
        none, one = (dkd(student, teacher, targets, temperature, beta) for beta in (0.0, 1.0))
        torch.testing.assert_close(none + doubt * (one - none), kl(student, teacher, targets, temperature, 1.0))


def test_decoupled_distillation_of_a_confident_teacher_is_finite() -> None:
    teacher, student = torch.tensor([[80.0, -80.0, -80.0]]), torch.zeros(1, 3, requires_grad=True)
    loss = dkd(student, teacher, torch.tensor([0]), 1.0, 2.0).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_standardised_logits_have_mean_0_and_deviation_1() -> None:
    # (0, 2) and (1, 2) are (-1, 1) / sqrt(2) both, once standardised.
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(
        kl_standardised(student, teacher, torch.tensor([0]), 2.0, 1.0), torch.zeros(1), atol=1e-6, rtol=0
    )
    towards = torch.tensor([[2.0, 0.0]])
    p = 1 / (1 + math.exp(-math.sqrt(2) / 2))
    expected = torch.tensor([4 * (2 * p - 1) * LOG(p / (1 - p))])
    torch.testing.assert_close(kl_standardised(student, towards, torch.tensor([0]), 2.0, 1.0), expected)


def test_a_scale_and_a_shift_of_the_logits_change_no_standardised_divergence() -> None:
    student, teacher, targets = logits_and_targets()
    plain = kl_standardised(student, teacher, targets, 3.0, 1.0)
    torch.testing.assert_close(
        kl_standardised(5 * student - 1, 0.2 * teacher + 4, targets, 3.0, 1.0), plain, rtol=1e-5, atol=1e-9
    )


def test_a_teacher_with_equal_logits_has_a_finite_standardised_loss() -> None:
    assert torch.isfinite(kl_standardised(torch.ones(1, 4), torch.zeros(1, 4), torch.tensor([0]), 2.0, 1.0)).all()


def test_the_squared_difference_equals_a_value_computed_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    torch.testing.assert_close(mse(student, teacher, torch.tensor([0]), 9.0, 1.0), torch.tensor([5 / 3]))


def test_the_hard_term_is_the_cross_entropy_of_the_teachers_answer() -> None:
    student, teacher = (
        torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]),
        torch.tensor([[0.0, 5.0, 1.0], [0.2, 0.1, 0.0]]),
    )
    losses = TERMS["hard"](student, teacher, torch.tensor([2, 2]), 7.0, 1.0)
    second = math.log(1 + 2 * math.exp(-2))
    torch.testing.assert_close(losses, torch.tensor([math.log(3), second]))


def test_at_a_high_temperature_the_divergence_is_half_the_squared_difference_of_centred_logits() -> None:
    student, teacher, targets = logits_and_targets()
    centred = [logits - logits.mean(dim=-1, keepdim=True) for logits in (student, teacher)]
    hot = kl(student, teacher, targets, 1e4, 1.0)
    torch.testing.assert_close(hot, mse(*centred, targets, 1e4, 1.0) / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_zero_for_a_copy_and_gradient_descent_converges_to_the_teacher(term: str) -> None:
    student, teacher, targets = logits_and_targets()
    how = {"temperature": 2.0, "alpha": 1.0, "term": term}
    copy = distillation_loss(teacher, teacher, targets, **how)
    if term != "hard":  # its target is one class, whatever the teacher's probabilities
        torch.testing.assert_close(copy, torch.zeros((), dtype=copy.dtype), atol=1e-9, rtol=0)
    student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        distillation_loss(student, teacher, targets, **how).backward()
        optimizer.step()
    assert (student.argmax(-1) == teacher.argmax(-1)).all()


@pytest.mark.parametrize("term", TERMS)
def test_the_loss_uses_the_term_of_the_settings(term: str) -> None:
    student, teacher, targets = logits_and_targets()
    batch = Batch(torch.zeros(len(targets), 1, 1), torch.ones(len(targets), dtype=torch.int64), targets, teacher)
    settings = resolve({"distill.alpha": 0.4, "distill.loss": term, "distill.beta": 3.0, "train.label_smoothing": 0.0})
    soft = TERMS[term](student, teacher, targets, 2.0, 3.0).mean()
    expected = 0.6 * F.cross_entropy(student, targets) + 0.4 * soft
    torch.testing.assert_close(make_student_loss(settings, None)(student, batch), expected)


def test_a_mixture_of_clips_has_no_true_class_to_decouple() -> None:
    settings = resolve({"distill.alpha": 0.5, "distill.loss": "dkd", "augment.mixup": 0.2})
    with pytest.raises(UserError, match="dkd and augment.mixup"):
        refuse_contradictions(settings)
