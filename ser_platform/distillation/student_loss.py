"""What a student pays: hard labels, what its teacher says, or a blend."""

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
    """Blend hard-label cross-entropy with a teacher term; a scalar.

    `alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) * CE`, or another of `TERMS` in place of `T^2 * KL`. The
    literature also uses alpha for the other term.

    Args:
        student_logits, teacher_logits: `(batch, n_emotions)`, same label order; the teacher's detached.
        targets: `(batch,)` class indices, or probabilities `(batch, n_emotions)`.
        temperature: > 0; higher gives softer teacher probabilities.
        alpha: weight of the teacher term in [0, 1]; 0 is plain supervised training.
        term: the teacher term, one of `TERMS`; its mean over the clips is taken.
        beta: weight of the classes that are not true ones, of `dkd` only.
        class_weights: `(n_emotions,)`, on the hard term only: the teacher was trained with them already.
        label_smoothing: on the hard term only, in [0, 1).
        whole_targets: of the whole batch, where the clips are a part of one; the losses of its parts add up to its own.
        has_unlabelled: some targets may be -1: these clips are in the teacher term alone.
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
    """Return the loss of a configuration: `distillation_loss`, or the hard-label loss alone where alpha is 0."""
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
