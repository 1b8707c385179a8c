"""The training loop: yields an epoch's result at a time. Knows no trial, no run and no file."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_platform.errors import WorkFailed
from ser_platform.features.chunks import Chunks, averaged_logits
from ser_platform.features.normaliser import Normaliser
from ser_platform.metrics import confusion_matrix, macro_f1_of, uar_of, war
from ser_platform.models import build_model
from ser_platform.settings import Settings
from ser_platform.training.augment import Augmenter
from ser_platform.training.batches import Batch, TrainingData, by_length, make_batch, shuffled
from ser_platform.training.losses import cross_entropy

EVALUATION_BATCH = 64
WARM_UP = 0.25  # share of the steps in which one_cycle rises
SHORTEST_CYCLE = 8  # steps; a shorter rise has no length, by which one_cycle would divide

Loss = Callable[[Tensor, Batch], Tensor]


class Diverged(WorkFailed):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch; losses in nats, UAR, WAR, F1 in [0, 1], NaN without dev clips; `seconds` includes evaluation."""

    epoch: int
    train_loss: float
    dev_loss: float
    dev_uar: float
    dev_war: float
    dev_macro_f1: float
    best_dev_uar: float
    best_epoch: int
    seconds: float


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def class_weights(targets: NDArray[np.int64], n_emotions: int) -> Tensor:
    """Return weights `(n_emotions,)` inverse to the class frequencies, with mean 1 over the clips."""
    counts = np.bincount(targets, minlength=n_emotions)
    return torch.tensor(len(targets) / (n_emotions * np.maximum(counts, 1)), dtype=torch.float32)


def hard_label_loss(settings: Settings, weights: Tensor | None) -> Loss:
    """Return class-weighted cross-entropy with label smoothing."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.targets, weights, settings["train.label_smoothing"])

    return loss


class Trainer:
    """Trains one configuration on one set of clips.

    After `epochs()` has run, `best_state` holds the weights of the epoch with the best dev UAR (of the last epoch
    without dev) and `best_dev_logits` that epoch's logits of the dev clips.
    """

    def __init__(
        self,
        settings: Settings,
        data: TrainingData,
        make_loss: Callable[[Settings, Tensor | None], Loss] = hard_label_loss,
        device: torch.device | None = None,
    ) -> None:
        seed_everything(settings["seed"])
        self.settings, self.data = settings, data
        self.device = device or torch.device("cpu")
        self.normaliser: Normaliser = data.features.normaliser(data.train)
        self.model = build_model(settings, data.features.view.n_features, len(data.labels)).to(self.device)
        weights = class_weights(data.targets[data.train], len(data.labels)).to(self.device)
        self.loss = make_loss(settings, weights if settings["train.class_weights"] else None)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings["optimizer.lr"], weight_decay=settings["optimizer.weight_decay"]
        )
        self._rng = np.random.default_rng(settings["seed"])
        self._chunks = data.features.view.chunks
        self._augment = Augmenter(settings, len(data.labels), self.device)
        self.best_state = self._state()
        self.best_dev_logits: NDArray[np.float32] | None = None

    def epochs(self, stop_after: int | None = None) -> Iterator[EpochResult]:
        """Train, yielding after each epoch; ends early when dev UAR has not risen for `train.patience` epochs.

        `stop_after` ends the run before `train.epochs` without changing the schedule.

        Raises:
            Diverged: the loss is no longer a number.
        """
        n_epochs = self.settings["train.epochs"]
        batches = shuffled(self.data.train, self.data.features.lengths, self.settings["train.batch_size"], self._rng)
        schedule = _schedule(self.optimizer, self.settings, n_epochs * len(batches))
        best = (-1.0, -math.inf)
        best_uar, best_epoch = math.nan, 0
        for epoch in range(1, min(n_epochs, stop_after or n_epochs) + 1):
            began = time.perf_counter()
            train_loss = self._train(batches, schedule, epoch)
            dev_loss, dev_uar, dev_war, dev_f1, logits = self._evaluate()
            if logits is None:
                best_epoch, self.best_state = epoch, self._state()
            elif (dev_uar, -dev_loss) > best:
                best, best_uar, best_epoch = (dev_uar, -dev_loss), dev_uar, epoch
                self.best_state, self.best_dev_logits = self._state(), logits
            seconds = time.perf_counter() - began
            yield EpochResult(epoch, train_loss, dev_loss, dev_uar, dev_war, dev_f1, best_uar, best_epoch, seconds)
            if epoch - best_epoch >= self.settings["train.patience"]:
                return
            batches = shuffled(
                self.data.train, self.data.features.lengths, self.settings["train.batch_size"], self._rng
            )

    def logits(self, clips: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the present model's logits `(n_clips, n_emotions)`, in the order of `clips`."""
        self.model.eval()
        position = {int(clip): row for row, clip in enumerate(clips)}
        logits = np.empty((len(clips), len(self.data.labels)), dtype=np.float32)
        with torch.inference_mode():
            for part in by_length(clips, self.data.features.lengths, EVALUATION_BATCH):
                batch = make_batch(self.data, part, self.normaliser).to(self.device)
                found = averaged_logits(self.model, batch.features, batch.lengths, self._chunks)
                logits[[position[int(clip)] for clip in part]] = found.cpu().numpy()
        return logits

    def restore_best(self) -> None:
        """Put the best epoch's weights into the model."""
        self.model.load_state_dict(self.best_state)

    def _train(
        self, batches: list[NDArray[np.int64]], schedule: torch.optim.lr_scheduler.LRScheduler, epoch: int
    ) -> float:
        self.model.train()
        total = torch.zeros((), device=self.device)
        for clips in batches:
            batch = make_batch(self.data, clips, self.normaliser, seed=self.settings["seed"], epoch=epoch)
            batch = self._augment(batch.to(self.device))
            loss = train_step(
                self.model, batch, self.loss, self.optimizer, self.settings["train.max_norm"], self._chunks
            )
            schedule.step()
            total += loss * len(clips)
        mean = float(total) / sum(map(len, batches))
        if not math.isfinite(mean):
            raise Diverged(f"loss is {mean} in epoch {epoch}; lower optimizer.lr ({self.settings['optimizer.lr']:g})")
        return mean

    def _evaluate(self) -> tuple[float, float, float, float, NDArray[np.float32] | None]:
        dev = self.data.dev
        if dev is None:
            return math.nan, math.nan, math.nan, math.nan, None
        logits, targets = self.logits(dev), self.data.targets[dev]
        loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets)).item()
        predictions = logits.argmax(axis=1)
        matrix = confusion_matrix(targets, predictions, len(self.data.labels))
        return loss, uar_of(matrix), war(targets, predictions), macro_f1_of(matrix), logits

    def _state(self) -> dict[str, Tensor]:
        """Return a copy of the weights: `state_dict` alone would go on changing."""
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}


def train_step(
    model: nn.Module,
    batch: Batch,
    loss_fn: Loss,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    chunks: Chunks | None = None,
) -> Tensor:
    """Update `model` on one batch and return the detached loss in nats, a scalar; `chunks` are judged one by one."""
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(averaged_logits(model, batch.features, batch.lengths, chunks), batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.detach()  # .item() here would wait for the GPU at every step


def _schedule(
    optimizer: torch.optim.Optimizer, settings: Settings, n_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    name = settings["optimizer.schedule"]
    if name == "one_cycle":  # Smith & Topin, 2018, arXiv:1708.07120
        total = max(n_steps + 1, SHORTEST_CYCLE)
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings["optimizer.lr"], total_steps=total, pct_start=WARM_UP, cycle_momentum=False
        )
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
