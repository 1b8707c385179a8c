"""Ridge regression on what a frozen encoder says of whole clips: the classifier that needs no steps and no seed."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from ser_platform.models.pretrained import Pretrained
from ser_platform.training.calibration import fit_temperature
from ser_platform.training.closed_form.classical import (
    MIN_RIDGE_TEMPERATURE,
    ClassicalTrainer,
    sample_weights,
    split_speakers,
)
from ser_platform.training.closed_form.estimators import Classes, Rows

Weights = NDArray[np.float32]
WEIGHT = "head.classifier.weight"


class EncoderRidgeTrainer(ClassicalTrainer):
    """Fits the classifier of `model.classifier ridge`; see `trainers.TrainerProtocol`.

    Least squares on the classes, one column each: on more columns than clips it is what a support vector machine is,
    at a fraction of the cost (Rifkin, Yeo & Poggio, 2003, Regularized least-squares classification).

    Scores of least squares are no logits. They are scaled to be some: by the temperature that fits the scores of
    training speakers by classifiers that have not heard them.
    """

    def _fit(self) -> dict[str, Tensor]:
        clips = self._sample_clips()
        rows, targets = self._embed(clips), self.data.targets[clips]
        speakers = self._speakers(clips, "the scores of model.classifier ridge are calibrated")
        weight = self._solve(rows, targets)
        scores = np.empty((len(rows), len(self.data.labels)), dtype=np.float32)
        for train, held_out in split_speakers(speakers):
            scores[held_out] = rows[held_out] @ self._solve(rows[train], targets[train]).T
        return {WEIGHT: torch.from_numpy(weight / np.float32(fit_temperature(scores, targets, MIN_RIDGE_TEMPERATURE)))}

    def _embed(self, clips: NDArray[np.int64]) -> Rows:
        """Return what the classifier judges of clips, `(n_clips, n_columns)`."""
        model = cast(Pretrained, self.model)
        with torch.inference_mode():
            rows = torch.from_numpy(self._rows(clips))[:, None]
            return model.pool(rows, torch.ones(len(clips), dtype=torch.int64)).numpy()

    def _solve(self, rows: Rows, targets: Classes) -> Weights:
        """Return the weights `(n_emotions, n_columns)`.

        The penalty is against the mean square of a row's columns, so it means the same for every encoder, and counts
        once for a clip and each of its copies.
        """
        n_emotions, scale = len(self.data.labels), np.float32(np.sqrt(rows.shape[1]))
        wanted = np.eye(n_emotions, dtype=np.float32)[targets] - np.float32(1 / n_emotions)
        penalty = self.settings.model.ridge * (1 + self.settings.augment.copies)
        solved = Ridge(penalty, fit_intercept=False).fit(rows / scale, wanted, sample_weights(self.settings, targets))
        weight: Weights = (solved.coef_ / scale).astype(np.float32)
        return weight
