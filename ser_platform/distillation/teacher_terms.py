"""Teacher terms: the difference between student and teacher of each clip. `distill.loss` names one.

Each takes student and teacher logits `(batch, n_emotions)` in the same label order, class indices `(batch,)`, the
temperature > 0 and beta >= 0; unused arguments are ignored. Each returns `(batch,)` in nats (`mse`: squared logits).
Terms with a temperature are multiplied by its square, because their gradients shrink by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor


# student, teacher, targets, temperature, beta
Term: TypeAlias = "Callable[[Tensor, Tensor, Tensor, float, float], Tensor]"
SMALLEST_DEVIATION = 1e-7  # of a clip's logits, which may all be equal


def kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `T^2 KL(teacher_T || student_T)`.

    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 2.
    """
    return temperature**2 * _compute_kl(student / temperature, teacher / temperature)


def kl_standardised(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `kl` of logits standardised to mean 0 and deviation 1 in each clip: their scale may differ.

    Source: Sun et al. (2024), "Logit Standardization in Knowledge Distillation", arXiv:2403.01878, algorithm 1.
    """
    return kl(_standardise(student), _standardise(teacher), targets, temperature, beta)


def dkd(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return `T^2 (TCKD + beta NCKD)`: the divergence of true class against the rest, and within the rest.

    With beta = 1 - p_teacher(true class) of each clip it equals `kl`.

    Source: Zhao et al. (2022), "Decoupled Knowledge Distillation", arXiv:2203.08679, equation 7.
    """
    import torch.nn.functional as F

    true = F.one_hot(targets, student.shape[-1]).bool()
    target_term = _compute_kl(_merge_rest(student / temperature, true), _merge_rest(teacher / temperature, true))
    others = _compute_kl(_drop_true(student / temperature, true), _drop_true(teacher / temperature, true))
    return temperature**2 * (target_term + beta * others)


def mse(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return the mean over emotions of the squared difference of the logits; the temperature is not used.

    Source: Kim et al. (2021), "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge
    Distillation", arXiv:2105.08919, equation 4 (there the sum over classes).
    """
    return (student - teacher).square().mean(dim=-1)


def hard(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """Return the cross-entropy with the teacher's most likely emotion as target.

    Source: Touvron et al. (2021), "Training data-efficient image transformers & distillation through attention",
    arXiv:2012.12877, equation 3.
    """
    import torch.nn.functional as F

    return F.cross_entropy(student, teacher.argmax(dim=-1), reduction="none")


TERMS: dict[str, Term] = {"kl": kl, "kl_standardised": kl_standardised, "dkd": dkd, "mse": mse, "hard": hard}


def _compute_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of each clip, from logits."""
    import torch.nn.functional as F

    student, teacher = F.log_softmax(student, dim=-1), F.log_softmax(teacher, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _standardise(logits: Tensor) -> Tensor:
    deviation = logits.std(dim=-1, keepdim=True)
    return (logits - logits.mean(dim=-1, keepdim=True)) / (deviation + SMALLEST_DEVIATION)


def _merge_rest(logits: Tensor, true: Tensor) -> Tensor:
    """Return logits `(batch, 2)`: the true class, and all other classes together."""
    import torch

    rest = logits.masked_fill(true, -float("inf")).logsumexp(dim=-1)
    return torch.stack([logits[true], rest], dim=-1)


def _drop_true(logits: Tensor, true: Tensor) -> Tensor:
    """Return the logits of the other classes, `(batch, n_emotions - 1)`."""
    return logits[~true].reshape(len(logits), -1)
