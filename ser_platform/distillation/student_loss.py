"""The loss of a student: cross-entropy with labels, a teacher term, or a weighted sum of both."""

from torch import Tensor

from ser_platform.distillation.teacher_terms import TERMS
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import Batch
from ser_platform.training.cross_entropy import Loss, cross_entropy, make_hard_label_loss


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    alpha: float,
    term: str = "kl",
    beta: float = 1.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    full_batch_targets: Tensor | None = None,
    has_unlabelled: bool = False,
) -> Tensor:
    """Return `alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) * CE` in nats, a scalar.

    `term` replaces `T^2 * KL`. Some papers use alpha for the weight of the cross-entropy instead.

    Args:
        student_logits, teacher_logits: `(batch, n_emotions)`, same label order; the teacher's detached.
        targets: `(batch,)` class indices, or probabilities `(batch, n_emotions)`.
        temperature: > 0; higher gives softer teacher probabilities.
        alpha: weight of the teacher term in [0, 1]; 0 is plain supervised training.
        term: the teacher term, a key of `TERMS`; averaged over the clips.
        beta: weight of the other classes, >= 0; `dkd` only.
        class_weights: `(n_emotions,)`, of the cross-entropy only: the teacher was trained with them already.
        label_smoothing: in [0, 1), of the cross-entropy only.
        full_batch_targets: targets of the whole batch, where the clips are a part of it; the losses of the parts add
            up to the loss of the batch. None: the clips are the whole batch.
        has_unlabelled: whether targets may be -1; such clips are in the teacher term only.

    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 2.
    """
    soft = TERMS[term](student_logits, teacher_logits, targets, temperature, beta).sum()
    distilled = alpha * soft / len(targets if full_batch_targets is None else full_batch_targets)
    if has_unlabelled:
        full_batch_targets = targets if full_batch_targets is None else full_batch_targets
        student_logits, targets = student_logits[targets >= 0], targets[targets >= 0]
        full_batch_targets = full_batch_targets[full_batch_targets >= 0]
        if not len(targets):
            return distilled
    hard = cross_entropy(student_logits, targets, class_weights, label_smoothing, full_batch_targets)
    return (1 - alpha) * hard + distilled


def make_student_loss(settings: Settings, class_weights: Tensor | None) -> Loss:
    """Return the loss of a configuration: `distillation_loss`, or only the hard-label loss where alpha is 0."""
    if settings.distill.alpha == 0:
        return make_hard_label_loss(settings, class_weights)

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        assert batch.teacher_logits is not None, "distill.alpha > 0 needs teacher outputs"
        return distillation_loss(
            logits,
            batch.teacher_logits,
            batch.targets,
            temperature=settings.distill.temperature,
            alpha=settings.distill.alpha,
            term=settings.distill.loss,
            beta=settings.distill.beta,
            class_weights=class_weights,
            label_smoothing=settings.train.label_smoothing,
            full_batch_targets=batch.full_batch_targets,
            has_unlabelled=bool(settings.distill.unlabelled),
        )

    return loss
