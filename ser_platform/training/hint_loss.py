"""The hint loss: the distance between a linear map of the student's embedding and the teacher's embedding.

Source: Romero et al. (2015), "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550, section 2.2, which uses a middle
layer before the main training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_platform.models.model_output import ModelOutput, NeuralModel
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import Batch, TrainingData

NO_HINT, COSINE, MSE = "off", "cosine", "mse"
LEAST_DEVIATION = 1e-5  # of a column that is the same for every clip


class Hint(nn.Module):
    """A linear map from a model's embedding to its teacher's embedding, and the loss of the difference.

    The embedding is the input of the model's last layer. The teacher's embedding is standardised to mean 0 and
    deviation 1 over the training clips, because a few columns of an encoder are much larger than the others.

    Args:
        n_embedded: width of the model's embedding.
        embeddings: the teacher's embeddings of the training clips, `(n_clips, width)`.
        distance: `COSINE` or `MSE`.
        weight: factor of the loss, >= 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_embedded: int, embeddings: Tensor, distance: str, weight: float) -> None:
        super().__init__()
        self.distance, self.weight = distance, weight
        self.projection = nn.Linear(n_embedded, embeddings.shape[1])
        self.register_buffer("mean", embeddings.mean(dim=0))
        self.register_buffer("std", embeddings.std(dim=0, correction=0).clamp_min(LEAST_DEVIATION))

    def loss(self, embedding: Tensor, batch: Batch) -> Tensor:
        """Return `weight` times 1 - cosine or the mean square of the difference, a scalar.

        `embedding` is `(batch, n_embedded)`. The sum over clips is divided by the number of clips of the whole batch,
        so that the losses of its parts add up.
        """
        assert batch.teacher_embeddings is not None, "distill.hint needs a teacher's embeddings"
        projected, expected = self.projection(embedding.float()), (batch.teacher_embeddings - self.mean) / self.std
        if self.distance == COSINE:
            missed = 1 - F.cosine_similarity(projected, expected)
        else:
            missed = (projected - expected).square().mean(dim=1)
        return self.weight * missed.sum() / batch.full_size


def make_hint(model: NeuralModel, settings: Settings, data: TrainingData) -> Hint | None:
    """Return the hint of a model; None where `distill.hint` is off."""
    if settings.distill.hint == NO_HINT:
        return None
    assert data.teacher_embeddings is not None, "distill.hint needs a teacher's embeddings"
    embeddings = torch.from_numpy(data.teacher_embeddings[data.train])
    return Hint(model.n_embedded, embeddings, settings.distill.hint, settings.distill.hint_weight)


def hint_loss(hint: Hint | None, output: ModelOutput, batch: Batch) -> Tensor | float:
    """Return the hint loss of a model's output for a batch; 0 without a hint."""
    return 0.0 if hint is None else hint.loss(output.embedding, batch)
