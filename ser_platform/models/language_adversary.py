"""Language adversary: a classifier of languages whose reversed gradient removes the language from embeddings.

Source: Ganin & Lempitsky (2015), arXiv:1409.7495, section 3.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _GradientReversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """Return `x`; the backward pass multiplies its gradient by `-weight`."""
    reversed_: Tensor = _GradientReversal.apply(x, weight)
    return reversed_


class LanguageAdversary(nn.Module):
    """Classifies the language of a clip by its embedding, behind a gradient reversal.

    Its cross-entropy is added to the loss of the emotions: the adversary learns the languages, and the layers before it
    receive the opposite gradient times `weight`.
    """

    def __init__(self, n_inputs: int, n_languages: int, n_hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_languages))

    def forward(self, embeddings: Tensor, weight: float) -> Tensor:
        """Map embeddings `(batch, n_inputs)` to logits `(batch, n_languages)`; `weight` >= 0 scales the reversal."""
        logits: Tensor = self.layers(reverse_gradient(embeddings, weight))
        return logits
