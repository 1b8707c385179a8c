"""Linear least squares on one row a clip, solved at once: to labels, or to what a teacher says."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from ser_platform.training.calibration import fit_temperature
from ser_platform.training.closed_form.classical import (
    MIN_RIDGE_TEMPERATURE,
    ClassicalTrainer,
    sample_weights,
    split_speakers,
)
from ser_platform.training.loop import Diverged

Values = NDArray[np.float64]


class FeatureRidgeTrainer(ClassicalTrainer):
    """Fits `model.name ridge`; see `trainers.TrainerProtocol`.

    Without a teacher the squares are of the classes, one column each (Rifkin, Yeo & Poggio, 2003, Regularized
    least-squares classification). With one they are `alpha * |scores - teacher's logits|^2 + (1 - alpha) * |scores -
    classes|^2`, logits about their mean, and classes as far apart as these (Ba & Caruana, 2014, arXiv:1312.6184, match
    logits alike). As both are squares of the same scores, their sum is least where that of one square to a mixture of
    both is: a teacher costs nothing. Class weights are of the second term, which a clip without a label has not.

    Scores are scaled to be logits by the temperature that fits those of training speakers by models that have not heard
    them.
    """

    def _fit(self) -> dict[str, Tensor]:
        clips = np.concatenate([self._sample_clips(), self.data.unlabelled])
        rows, wanted, importance = self._rows(clips).astype(np.float64), *self._target_scores(clips)
        if not (np.isfinite(rows).all() and np.isfinite(wanted).all()):
            raise Diverged("model.name ridge cannot be solved: a feature or a teacher's logit is no number")
        weight, bias = self._solve(rows, wanted, importance)
        temperature = self._temperature(clips, rows, wanted, importance)
        return {
            "layer.weight": torch.from_numpy((weight / temperature).astype(np.float32)),
            "layer.bias": torch.from_numpy((bias / temperature).astype(np.float32)),
        }

    def _target_scores(self, clips: NDArray[np.int64]) -> tuple[Values, Values]:
        """Return the scores that clips should have, `(n_clips, n_emotions)`, and how much each counts, `(n_clips,)`."""
        settings, targets = self.settings, self.data.targets[clips]
        alpha, n_emotions = settings.distill.alpha, len(self.data.labels)
        labelled = targets >= 0
        classes = np.eye(n_emotions)[targets] - 1 / n_emotions
        of_labels = np.zeros(len(clips))
        of_labels[labelled] = (1 - alpha) * sample_weights(settings, targets[labelled])
        if not alpha:
            return classes, of_labels
        assert self.data.teacher_logits is not None, "distill.alpha > 0 needs teacher outputs"
        teacher_logits = self.data.teacher_logits[clips].astype(np.float64)
        teacher_logits -= teacher_logits.mean(axis=1, keepdims=True)
        classes *= np.sqrt(np.mean(teacher_logits[labelled] ** 2) / np.mean(classes[labelled] ** 2))
        importance = alpha + of_labels
        return (alpha * teacher_logits + of_labels[:, None] * classes) / importance[:, None], importance

    def _solve(self, rows: Values, wanted: Values, importance: Values) -> tuple[Values, Values]:
        """Return weights `(n_emotions, n_features)` and biases of the ridge regression.

        Columns count by their correlation with what is wanted, as initial weights of an adaptive penalty where there
        are more columns than clips (Huang, Ma & Zhang, 2008, Adaptive lasso for sparse high-dimensional regression
        models, section 3). The penalty is against the mean square of a row, and counts once for a clip and its copies.
        """
        scale = self._relevance(rows, wanted, importance)
        penalty = self.settings.model.ridge * (1 + self.settings.augment.copies)
        solved = Ridge(penalty).fit(rows * scale, wanted, importance)
        return solved.coef_ * scale, solved.intercept_

    def _relevance(self, rows: Values, wanted: Values, importance: Values) -> Values:
        """Return what each column is multiplied by, `(n_features,)`, so that a row's mean square is about 1."""
        centred = rows - np.average(rows, axis=0, weights=importance)
        aim = wanted - np.average(wanted, axis=0, weights=importance)
        weighed = importance[:, None] * centred
        spread = np.sqrt((weighed * centred).sum(axis=0))[:, None] * np.sqrt((importance[:, None] * aim**2).sum(axis=0))
        correlations = np.divide(weighed.T @ aim, spread, out=np.zeros_like(spread), where=spread > 0)
        scale: Values = np.sqrt(np.mean(correlations**2, axis=1)) ** self.settings.model.relevance
        length = np.sqrt(np.sum(scale**2))
        return scale / length if length else scale

    def _temperature(self, clips: NDArray[np.int64], rows: Values, wanted: Values, importance: Values) -> float:
        """Return by what scores are divided: fitted on labelled clips, by models that have not heard their speakers."""
        targets = self.data.targets[clips]
        labelled = np.flatnonzero(targets >= 0)
        speakers = self._speakers(clips[labelled], "the scores of model.name ridge are calibrated")
        scores = np.empty((len(labelled), len(self.data.labels)), dtype=np.float32)
        for _, held_out in split_speakers(speakers):
            fitted = np.setdiff1d(np.arange(len(clips)), labelled[held_out])
            weight, bias = self._solve(rows[fitted], wanted[fitted], importance[fitted])
            scores[held_out] = rows[labelled[held_out]] @ weight.T + bias
        return fit_temperature(scores, targets[labelled], MIN_RIDGE_TEMPERATURE)
