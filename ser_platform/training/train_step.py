"""One update of a model on one batch: forward pass, losses, summed gradients, optimizer step."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ser_platform.features.views.chunks import Chunks, average_by_clip
from ser_platform.models.model_output import ModelOutput, NeuralModel
from ser_platform.training.adversary_loss import language_loss
from ser_platform.training.batches.batch import Batch
from ser_platform.training.cross_entropy import Loss
from ser_platform.training.hint_loss import Hint, hint_loss
from ser_platform.training.precision import FLOAT32, Precision
from ser_platform.training.workers import SINGLE_WORKER, WorkerGroup, sum_gradients


def train_step(
    model: NeuralModel,
    parts: Iterable[Batch],
    loss_fn: Loss,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    chunks: Chunks | None = None,
    precision: Precision = FLOAT32,
    group: WorkerGroup = SINGLE_WORKER,
    hint: Hint | None = None,
) -> Tensor:
    """Update `model` and `hint` on one batch, and return this worker's part of the detached loss in nats, a scalar.

    Args:
        parts: this worker's share of the batch, which may be empty.
        max_norm: the largest norm of the gradient, > 0; a larger gradient is scaled down.
        chunks: how clips are cut; the logits of a clip are the mean over its chunks.
    """
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=next(model.parameters()).device)
    for part in parts:
        with precision.autocast():
            output = _compute_output(model, part, chunks)
        loss = loss_fn(output.logits.float(), part) + language_loss(output, part) + hint_loss(hint, output, part)
        precision.backward(loss)
        total += loss.detach()  # .item() here would wait for the GPU at every step
    trained = [*model.parameters(), *(hint.parameters() if hint is not None else ())]
    sum_gradients(trained, group)
    precision.step(optimizer, trained, max_norm)
    return total


def _compute_output(model: NeuralModel, batch: Batch, chunks: Chunks | None) -> ModelOutput:
    """Return the output of `model`; with `chunks`, logits are means per clip, and embeddings are those of chunks."""
    if chunks is None:
        return model.compute_output(batch.features, batch.lengths)
    windows, lengths, clip_of = chunks.cut(batch.features, batch.lengths)
    output = model.compute_output(windows, lengths)
    return replace(output, logits=average_by_clip(output.logits, clip_of, len(batch.features)))
