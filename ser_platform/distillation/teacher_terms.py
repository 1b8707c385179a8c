"""Teacher terms: what a student pays, clip by clip, for differing from its teacher. `distill.loss` names one.

Each takes student and teacher logits `(batch, n_emotions)` in the same label order, and returns `(batch,)` in nats
(`mse`: squared logits). The square of the temperature is in those that know one: gradients shrink by it, and alpha is
to mean the same at every temperature.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Term = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]  # student, teacher, targets, temperature, beta
SMALLEST_DEVIATION = 1e-7  # of a clip's logits: those of a teacher that cannot tell are all the same


def kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `T^2 KL(teacher_T || student_T)`.

    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 2.
    """
    return temperature**2 * _divergence(student / temperature, teacher / temperature)


def kl_standardised(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `kl` of logits that have mean 0 and deviation 1 in each clip: the student may be less sure throughout.

    Source: Sun et al. (2024), "Logit Standardization in Knowledge Distillation", arXiv:2403.01878, algorithm 1.
    """
    return kl(_standardise(student), _standardise(teacher), targets, temperature, beta)


def dkd(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `T^2 (TCKD + beta NCKD)`: the true class against the rest, and the rest among themselves.

    With beta = 1 - p_teacher(true class), clip by clip, it would be `kl`. `targets` are class indices `(batch,)`.

    Source: Zhao et al. (2022), "Decoupled Knowledge Distillation", arXiv:2203.08679, equation 7.
    """
    true = F.one_hot(targets, student.shape[-1]).bool()
    target_term = _divergence(_true_and_rest(student / temperature, true), _true_and_rest(teacher / temperature, true))
    others = _divergence(_without(student / temperature, true), _without(teacher / temperature, true))
    return temperature**2 * (target_term + beta * others)


def mse(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return the mean over emotions of the squared difference of the logits; it knows no temperature.

    Source: Kim et al. (2021), "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge
    Distillation", arXiv:2105.08919, equation 4 (there the sum over classes).
    """
    return (student - teacher).square().mean(dim=-1)


def hard(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return the cross-entropy of what the teacher holds most likely: the limit of `kl` without doubt.

    Source: Touvron et al. (2021), "Training data-efficient image transformers & distillation through attention",
    arXiv:2012.12877, equation 3.
    """
    return F.cross_entropy(student, teacher.argmax(dim=-1), reduction="none")


TERMS: dict[str, Term] = {"kl": kl, "kl_standardised": kl_standardised, "dkd": dkd, "mse": mse, "hard": hard}


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of each clip, from logits."""
    student, teacher = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _standardise(logits: Tensor) -> Tensor:
    deviation = logits.std(dim=-1, keepdim=True)
    return (logits - logits.mean(dim=-1, keepdim=True)) / (deviation + SMALLEST_DEVIATION)


def _true_and_rest(logits: Tensor, true: Tensor) -> Tensor:
    """Return `(batch, 2)` logits: of the true class, and of all others together."""
    rest = logits.masked_fill(true, -float("inf")).logsumexp(dim=-1)
    return torch.stack([logits[true], rest], dim=-1)


def _without(logits: Tensor, true: Tensor) -> Tensor:
    """Return `(batch, n_emotions - 1)`, the logits of the other classes."""
    return logits[~true].reshape(len(logits), -1)
