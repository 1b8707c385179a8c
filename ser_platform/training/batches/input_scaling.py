"""The internal input scale of a model, fitted on training clips before the first step."""

import numpy as np
import torch

from ser_platform.features.views.normaliser import Normaliser
from ser_platform.models.model_output import NeuralModel
from ser_platform.training.batches.batch import TrainingData, batch_by_length, make_batch

MAX_SCALE_CLIPS = 256  # enough for a mean and a deviation of each number
BATCH_CLIPS = 8


def fit_scale(model: NeuralModel, data: TrainingData, normaliser: Normaliser, device: torch.device) -> None:
    """Fit the scale of a model that has one, on evenly spaced training clips; no random number is drawn."""
    clips = data.labelled  # unlabelled clips may be recorded differently
    chosen = clips[np.linspace(0, len(clips) - 1, min(MAX_SCALE_CLIPS, len(clips))).astype(np.int64)]
    batches = (
        make_batch(data, clips, normaliser) for clips in batch_by_length(chosen, data.features.lengths, BATCH_CLIPS)
    )
    model.fit_scale((batch.features.to(device), batch.lengths.to(device)) for batch in batches)
