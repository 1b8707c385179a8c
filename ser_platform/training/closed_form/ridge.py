"""Ridge regression on a frozen encoder's statistics of whole clips, without gradient steps or a seed."""

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
    compute_sample_weights,
    split_speakers,
)
from ser_platform.training.closed_form.estimators import Classes, Rows

Weights = NDArray[np.float32]
WEIGHT = "head.classifier.weight"


class EncoderRidgeTrainer(ClassicalTrainer):
    """Fits the classifier of `model.classifier ridge`; see `trainers.TrainerProtocol`.

    Least squares on the classes, one column each, is about as accurate as a support vector machine and faster (Rifkin,
    Yeo & Poggio, 2003, Regularized least-squares classification). The scores are divided by a temperature to become
    logits; it is fitted on training speakers with classifiers that were not trained on them.
    """

    def _fit(self) -> dict[str, Tensor]:
        clips = self._sample_clips()
        rows, targets = self._embed(clips), self.data.targets[clips]
        speakers = self._require_speakers(clips, "the scores of model.classifier ridge are calibrated")
        weight = self._solve(rows, targets)
        scores = np.empty((len(rows), len(self.data.labels)), dtype=np.float32)
        for train, held_out in split_speakers(speakers):
            scores[held_out] = rows[held_out] @ self._solve(rows[train], targets[train]).T
        return {WEIGHT: torch.from_numpy(weight / np.float32(fit_temperature(scores, targets, MIN_RIDGE_TEMPERATURE)))}

    def _embed(self, clips: NDArray[np.int64]) -> Rows:
        """Return the input of the classifier, `(n_clips, n_columns)`."""
        model = cast(Pretrained, self.model)
        with torch.inference_mode():
            rows = torch.from_numpy(self._read_rows(clips))[:, None]
            return model.pool(rows, torch.ones(len(clips), dtype=torch.int64)).numpy()

    def _solve(self, rows: Rows, targets: Classes) -> Weights:
        """Return the weights `(n_emotions, n_columns)`.

        The penalty is relative to the mean square of a row, and multiplied by the number of copies plus 1.
        """
        n_emotions, scale = len(self.data.labels), np.float32(np.sqrt(rows.shape[1]))
        classes = np.eye(n_emotions, dtype=np.float32)[targets] - np.float32(1 / n_emotions)
        penalty = self.settings.model.ridge * (1 + self.settings.augment.copies)
        solved = Ridge(penalty, fit_intercept=False).fit(
            rows / scale, classes, compute_sample_weights(self.settings, targets)
        )
        weight: Weights = (solved.coef_ / scale).astype(np.float32)
        return weight
