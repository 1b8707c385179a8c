"""The choice of the trainer of a configuration: by gradients, or by a single fit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_platform.features.views.normaliser import Normaliser
from ser_platform.models import CLASSICAL, CLOSED_FORM
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.checkpoints import Checkpoint
from ser_platform.training.closed_form.closed_form_settings import has_encoder_ridge
from ser_platform.training.cross_entropy import Loss, make_hard_label_loss
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.loop import Trainer
from ser_platform.training.workers import SINGLE_WORKER, WorkerGroup


class TrainerProtocol(Protocol):
    """Trains one configuration on one set of clips while `epochs()` is iterated; see `Trainer`."""

    normaliser: Normaliser
    best_state: dict[str, Tensor]
    best_dev_logits: NDArray[np.float32] | None

    @property
    def model(self) -> nn.Module: ...

    def epochs(self, stop_after: int | None = None) -> Iterator[EpochResult]: ...

    def logits(self, clips: NDArray[np.int64]) -> NDArray[np.float32]: ...

    def restore_best(self) -> None: ...

    def make_checkpoint(self) -> Checkpoint | None:
        """Return the state of the training; None where a single fit cannot be resumed."""

    def begin(self, checkpoint: Checkpoint | None, initial_state: Mapping[str, Tensor] | None) -> list[EpochResult]:
        """Load a checkpoint or else initial weights, and return the results of the finished epochs."""


def make_trainer(
    settings: Settings,
    data: TrainingData,
    make_loss: Callable[[Settings, Tensor | None], Loss] = make_hard_label_loss,
    device: torch.device | None = None,
    group: WorkerGroup = SINGLE_WORKER,
) -> TrainerProtocol:
    """Return the trainer of the model of `settings`, as one worker of `group`."""
    # Importing scikit-learn takes a second, which other models save.
    if has_encoder_ridge(settings):
        from ser_platform.training.closed_form.ridge import EncoderRidgeTrainer

        return EncoderRidgeTrainer(settings, data)
    if settings.model.name in CLOSED_FORM:
        from ser_platform.training.closed_form.least_squares import FeatureRidgeTrainer

        return FeatureRidgeTrainer(settings, data)
    if settings.model.name in CLASSICAL:
        from ser_platform.training.closed_form.classical import ClassicalTrainer

        return ClassicalTrainer(settings, data)
    return Trainer(settings, data, make_loss, device, group)
