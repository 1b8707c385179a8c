"""Linear least squares on one row per clip, to labels or to a teacher's logits, in closed form."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from ser_platform.training.calibration import fit_temperature
from ser_platform.training.closed_form.classical import (
    MIN_RIDGE_TEMPERATURE,
    ClassicalTrainer,
    compute_sample_weights,
    split_speakers,
)
from ser_platform.training.loop import Diverged

Values = NDArray[np.float64]


class FeatureRidgeTrainer(ClassicalTrainer):
    """Fits `model.name ridge`; see `trainers.TrainerProtocol`.

    Without a teacher it solves least squares on the classes, one column each (Rifkin, Yeo & Poggio, 2003, Regularized
    least-squares classification). With a teacher it minimises `alpha * |scores - logits|^2 + (1 - alpha) * |scores -
    classes|^2`, with the teacher's logits centred and the classes scaled to their mean square (logit matching: Ba &
    Caruana, 2014, arXiv:1312.6184). The minimum is that of one square to a weighted mean of logits and classes. Class
    weights apply to the second term, which clips without a label lack.

    The scores are divided by a temperature to become logits; it is fitted on training speakers with models that were
    not trained on them.
    """

    def _fit(self) -> dict[str, Tensor]:
        clips = np.concatenate([self._sample_clips(), self.data.unlabelled])
        rows, target_scores, weights = self._read_rows(clips).astype(np.float64), *self._make_target_scores(clips)
        if not (np.isfinite(rows).all() and np.isfinite(target_scores).all()):
            raise Diverged("model.name ridge cannot be solved: a feature or a teacher's logit is not finite")
        weight, bias = self._solve(rows, target_scores, weights)
        temperature = self._fit_temperature(clips, rows, target_scores, weights)
        return {
            "layer.weight": torch.from_numpy((weight / temperature).astype(np.float32)),
            "layer.bias": torch.from_numpy((bias / temperature).astype(np.float32)),
        }

    def _make_target_scores(self, clips: NDArray[np.int64]) -> tuple[Values, Values]:
        """Return the target scores of clips, `(n_clips, n_emotions)`, and their weights, `(n_clips,)`."""
        settings, targets = self.settings, self.data.targets[clips]
        alpha, n_emotions = settings.distill.alpha, len(self.data.labels)
        labelled = targets >= 0
        classes = np.eye(n_emotions)[targets] - 1 / n_emotions
        label_weights = np.zeros(len(clips))
        label_weights[labelled] = (1 - alpha) * compute_sample_weights(settings, targets[labelled])
        if not alpha:
            return classes, label_weights
        assert self.data.teacher_logits is not None, "distill.alpha > 0 needs teacher outputs"
        teacher_logits = self.data.teacher_logits[clips].astype(np.float64)
        teacher_logits -= teacher_logits.mean(axis=1, keepdims=True)
        classes *= np.sqrt(np.mean(teacher_logits[labelled] ** 2) / np.mean(classes[labelled] ** 2))
        weights = alpha + label_weights
        return (alpha * teacher_logits + label_weights[:, None] * classes) / weights[:, None], weights

    def _solve(self, rows: Values, target_scores: Values, weights: Values) -> tuple[Values, Values]:
        """Return weights `(n_emotions, n_features)` and biases of the ridge regression.

        Columns are scaled by their correlation with the target scores, like the initial weights of an adaptive penalty
        with more columns than clips (Huang, Ma & Zhang, 2008, Adaptive lasso for sparse high-dimensional regression
        models, section 3). The penalty is relative to the mean square of a row, and multiplied by the number of
        copies plus 1.
        """
        scale = self._compute_relevance(rows, target_scores, weights)
        penalty = self.settings.model.ridge * (1 + self.settings.augment.copies)
        solved = Ridge(penalty).fit(rows * scale, target_scores, weights)
        return solved.coef_ * scale, solved.intercept_

    def _compute_relevance(self, rows: Values, target_scores: Values, weights: Values) -> Values:
        """Return the factor of each column, `(n_features,)`; a scaled row has a mean square of about 1."""
        centred = rows - np.average(rows, axis=0, weights=weights)
        scores = target_scores - np.average(target_scores, axis=0, weights=weights)
        weighed = weights[:, None] * centred
        spread = np.sqrt((weighed * centred).sum(axis=0))[:, None] * np.sqrt((weights[:, None] * scores**2).sum(axis=0))
        correlations = np.divide(weighed.T @ scores, spread, out=np.zeros_like(spread), where=spread > 0)
        scale: Values = np.sqrt(np.mean(correlations**2, axis=1)) ** self.settings.model.relevance
        length = np.sqrt(np.sum(scale**2))
        return scale / length if length else scale

    def _fit_temperature(self, clips: NDArray[np.int64], rows: Values, target_scores: Values, weights: Values) -> float:
        """Return the temperature, fitted on labelled clips with models not trained on their speakers."""
        targets = self.data.targets[clips]
        labelled = np.flatnonzero(targets >= 0)
        speakers = self._require_speakers(clips[labelled], "the scores of model.name ridge are calibrated")
        scores = np.empty((len(labelled), len(self.data.labels)), dtype=np.float32)
        for _, held_out in split_speakers(speakers):
            fitted = np.setdiff1d(np.arange(len(clips)), labelled[held_out])
            weight, bias = self._solve(rows[fitted], target_scores[fitted], weights[fitted])
            scores[held_out] = rows[labelled[held_out]] @ weight.T + bias
        return fit_temperature(scores, targets[labelled], MIN_RIDGE_TEMPERATURE)
