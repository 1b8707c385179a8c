"""The hint's part of the loss: a student is paid for an embedding from which the teacher's encoder's can be told.

Source: Romero et al. (2015), "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550, section 2.2; there of a layer
within, before the training proper.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_platform.models.model_output import ModelOutput, NeuralModel
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import Batch, TrainingData

NO_HINT, COSINE, MSE = "off", "cosine", "mse"
LEAST_DEVIATION = 1e-5  # of a number that is the same for every clip


class Hint(nn.Module):
    """A linear map from a model's embedding to its teacher's, and what the model pays for missing it.

    The embedding is what the model's last layer classifies. The teacher's numbers are brought to mean 0 and deviation 1
    over the training clips: an encoder has a few that drown all others.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_embedded: int, embeddings: Tensor, distance: str, weight: float) -> None:
        """Make the map for a model of embeddings `n_embedded` wide, given the teacher's, `(n_clips, width)`."""
        super().__init__()
        self.distance, self.weight = distance, weight
        self.projection = nn.Linear(n_embedded, embeddings.shape[1])
        self.register_buffer("mean", embeddings.mean(dim=0))
        self.register_buffer("std", embeddings.std(dim=0, correction=0).clamp_min(LEAST_DEVIATION))

    def loss(self, embedding: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a model's embedding of a batch: `weight` times 1 - cosine, or the mean square.

        Like the other losses it is divided by the clips of the whole batch, so that parts of a batch add up to it.
        """
        assert batch.teacher_embeddings is not None, "distill.hint needs a teacher's embeddings"
        projected, wanted = self.projection(embedding.float()), (batch.teacher_embeddings - self.mean) / self.std
        if self.distance == COSINE:
            missed = 1 - F.cosine_similarity(projected, wanted)
        else:
            missed = (projected - wanted).square().mean(dim=1)
        return (
            self.weight
            * missed.sum()
            / len(batch.targets if batch.full_batch_targets is None else batch.full_batch_targets)
        )


def make_hint(model: NeuralModel, settings: Settings, data: TrainingData) -> Hint | None:
    """Return what makes a model resemble its teacher's encoder; None where `distill.hint` is off."""
    if settings.distill.hint == NO_HINT:
        return None
    assert data.teacher_embeddings is not None, "distill.hint needs a teacher's embeddings"
    embeddings = torch.from_numpy(data.teacher_embeddings[data.train])
    return Hint(model.n_embedded, embeddings, settings.distill.hint, settings.distill.hint_weight)


def hint_loss(hint: Hint | None, output: ModelOutput, batch: Batch) -> Tensor | float:
    """Return the hint's part of the loss on what the model computes of a batch; 0 without a hint."""
    return 0.0 if hint is None else hint.loss(output.embedding, batch)
