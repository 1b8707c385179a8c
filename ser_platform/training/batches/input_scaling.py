"""The internal input scale of a model, fitted on training clips before the first step."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ser_platform.features.views.normaliser import Normaliser
from ser_platform.training.batches.batch import TrainingData, batch_by_length, make_batch

MAX_SCALE_CLIPS = 256  # enough for a mean and a deviation of each number
BATCH_CLIPS = 8


@runtime_checkable
class SupportsFitScale(Protocol):
    """A model with an internal scale, fitted on batches of features and lengths."""

    def fit_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None: ...


def fit_scale(model: nn.Module, data: TrainingData, normaliser: Normaliser, device: torch.device) -> None:
    """Fit the scale of a model that has one, on evenly spaced training clips; no random number is drawn."""
    if not isinstance(model, SupportsFitScale):
        return
    model.eval()
    clips = data.labelled  # unlabelled clips may be recorded differently
    chosen = clips[np.linspace(0, len(clips) - 1, min(MAX_SCALE_CLIPS, len(clips))).astype(np.int64)]
    batches = (
        make_batch(data, clips, normaliser) for clips in batch_by_length(chosen, data.features.lengths, BATCH_CLIPS)
    )
    model.fit_scale((batch.features.to(device), batch.lengths.to(device)) for batch in batches)
