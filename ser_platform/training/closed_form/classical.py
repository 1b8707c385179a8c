"""Trainer of classical models: one fit on the training clips, reported as one epoch."""

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch import Tensor

from ser_platform.errors import UserError
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.metrics import uar
from ser_platform.models import build_model
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.batches.sampling import sample_clips
from ser_platform.training.checkpoints import Checkpoint
from ser_platform.training.closed_form.closed_form_settings import refuse_unsupported_settings
from ser_platform.training.closed_form.estimators import Classes, Rows, fit_estimator, fit_state
from ser_platform.training.dev_metrics import NO_DEV_METRICS, compute_dev_metrics
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.loop import Diverged

INNER_FOLDS = 5
MIN_RIDGE_TEMPERATURE = 0.01  # least-squares scores of classes differ by less than 1
# Candidates of model.c 0; the first of equal candidates is chosen.
C_GRID: dict[str, tuple[float, ...]] = {
    "svm_linear": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    "svm_rbf": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "svm_poly": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
}
LINEAR = ("svm_linear", "logistic")
ROWS_AT_ONCE = 256  # clips per forward pass: trees read a node of each tree for every clip


class ClassicalTrainer:
    """Fits one configuration on one set of clips; see `trainers.TrainerProtocol`.

    Logits are distances from a support vector machine's planes, logarithms of shares of votes, or scores. As with every
    model, a temperature fitted on dev clips makes them probabilities.

    Raises UserError where a setting is not valid for models without gradient steps.
    """

    def __init__(self, settings: Settings, data: TrainingData) -> None:
        refuse_unsupported_settings(settings)
        self.settings, self.data = settings, data
        self.normaliser: Normaliser = data.features.fit_normaliser(data.train)
        self.model = build_model(settings, data.features.view.n_features, len(data.labels)).eval()
        self.best_state: dict[str, Tensor] = {}
        self.best_dev_logits: NDArray[np.float32] | None = None

    def epochs(self, stop_after: int | None = None) -> Iterator[EpochResult]:
        """Fit, and yield one result; losses are cross-entropies of uncalibrated logits, in nats.

        Raises:
            Diverged: a weight is not finite.
            UserError: `model.c` is 0, and the training clips have fewer than two known speakers.
        """
        began = time.perf_counter()
        self.best_state = self._fit()
        self.model.load_state_dict(self.best_state)
        train, dev = self.data.labelled, self.data.dev
        targets = torch.from_numpy(self.data.targets[train])
        train_loss = F.cross_entropy(torch.from_numpy(self.logits(train)), targets).item()
        scores = NO_DEV_METRICS
        if dev is not None:
            self.best_dev_logits = self.logits(dev)
            scores = compute_dev_metrics(self.best_dev_logits, self.data.targets[dev])
        yield EpochResult(
            epoch=1,
            train_loss=train_loss,
            **scores,
            best_dev_uar=scores["dev_uar"],
            best_epoch=1,
            seconds=time.perf_counter() - began,
        )

    def logits(self, clips: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `(n_clips, n_emotions)`, in the order of `clips`."""
        logits = np.empty((len(clips), len(self.data.labels)), dtype=np.float32)
        with torch.inference_mode():
            for first in range(0, len(clips), ROWS_AT_ONCE):
                part = clips[first : first + ROWS_AT_ONCE]
                rows = torch.from_numpy(self._read_rows(part))[:, None]
                logits[first : first + len(part)] = self.model(rows, torch.ones(len(part), dtype=torch.int64)).numpy()
        return logits

    def restore_best(self) -> None:
        """Do nothing: there is one epoch."""

    def make_checkpoint(self) -> None:
        """Return None: a single fit cannot be resumed."""

    def begin(self, checkpoint: Checkpoint | None, initial_state: Mapping[str, Tensor] | None) -> list[EpochResult]:
        """Return no epochs: a single fit has neither checkpoint nor initial weights."""
        assert checkpoint is None, "a single fit has no checkpoint"
        assert initial_state is None, "a single fit has no initial weights"
        return []

    def _fit(self) -> dict[str, Tensor]:
        settings, clips = self.settings, self._sample_clips()
        if settings.model.name == "knn" and settings.model.neighbours > len(clips):
            raise UserError(
                f"model.neighbours {settings.model.neighbours} is more than the {len(clips)} training clips; lower it"
            )
        rows, targets = self._read_rows(clips), self.data.targets[clips]
        if settings.model.name in C_GRID and settings.model.c == 0:
            speakers = self._require_speakers(clips, "model.c 0 is chosen", "; set model.c, for instance to 0.01")
            settings = settings.with_overrides({"model.c": choose_c(settings, rows, targets, speakers)})
        state = fit_state(settings, rows, targets, compute_sample_weights(settings, targets), len(self.data.labels))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise Diverged(f"{settings.model.name} diverged; lower {_describe_step_size(settings)}")
        return state

    def _sample_clips(self) -> NDArray[np.int64]:
        """Return the labelled training clips that `train.sampling` selects."""
        how, seed = self.settings.train.sampling, self.settings.seed
        return sample_clips(self.data.labelled, self.data.targets, how, seed=seed, epoch=1)

    def _read_rows(self, clips: NDArray[np.int64]) -> Rows:
        """Return scaled features `(n_clips, n_features)`."""
        return self.data.features.batch(clips, self.normaliser)[0][:, 0]

    def _require_speakers(self, clips: NDArray[np.int64], what: str, remedy: str = "") -> list[str]:
        """Return the speakers of `clips`; raises UserError where fewer than two are known."""
        speakers = self.data.features.speakers
        named = [] if speakers is None else [speakers[clip] for clip in clips]
        if len(set(named)) < 2:
            raise UserError(
                f"{what} by cross-validation over training speakers, which needs 2; got {len(set(named))}{remedy}"
            )
        return named


def _rotate_to_principal_axes(rows: Rows) -> Rows:
    """Return the rows in the axes that they span, `(n_clips, n_clips)`, with the same product of any two rows.

    A linear model with a quadratic penalty has the same scores on them, and is fitted on fewer columns than, for
    instance, the 6373 of ComParE.
    """
    left, lengths, _ = np.linalg.svd(rows, full_matrices=False)
    turned: Rows = left * lengths
    return turned


def _describe_step_size(settings: Settings) -> str:
    """Return the setting of the step size with its value."""
    name = "optimizer.lr" if settings.model.name == "mlp_sklearn" else "model.learning_rate"
    return f"{name} ({settings.value(name):g})"


def compute_sample_weights(settings: Settings, targets: Classes) -> NDArray[np.float64]:
    """Return a weight per clip, `(n_clips,)`: inverse to its class's frequency with `train.class_weights`, else 1."""
    if not settings.train.class_weights:
        return np.ones(len(targets))
    counts = np.bincount(targets)
    return len(targets) / (np.count_nonzero(counts) * counts[targets])


def split_speakers(speakers: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return up to `INNER_FOLDS` pairs of positions to fit on and positions of other speakers to predict."""
    return list(GroupKFold(min(INNER_FOLDS, len(set(speakers)))).split(speakers, groups=speakers))


def choose_c(settings: Settings, rows: Rows, targets: Classes, speakers: Sequence[str]) -> float:
    """Return the `model.c` with the best UAR, pooled over folds of the training speakers.

    Args:
        rows: features scaled by all training clips, `(n_clips, n_features)`.
        targets, speakers: class index and speaker of each row.

    Raises UserError where the clips outside a fold are of one class.
    """
    if settings.model.name in LINEAR and rows.shape[1] > len(rows):
        rows = _rotate_to_principal_axes(rows)
    folds = split_speakers(speakers)
    if any(len(np.unique(targets[train])) < 2 for train, _ in folds):
        raise UserError(
            f"model.c 0 is chosen by cross-validation over training speakers, but without one fold the {len(rows)} "
            f"clips of train.sampling {settings.train.sampling} are of one class; set model.c, for instance to 0.01"
        )
    scores = {}
    for c in C_GRID[settings.model.name]:
        predicted = np.empty_like(targets)
        for train, held_out in folds:
            chosen = settings.with_overrides({"model.c": c})
            tried = fit_estimator(chosen, rows[train], targets[train], compute_sample_weights(settings, targets[train]))
            predicted[held_out] = tried.predict(rows[held_out])
        scores[c] = uar(targets, predicted, int(targets.max()) + 1)
    return max(scores, key=lambda c: scores[c])
