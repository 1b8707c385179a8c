"""What runs in a Ray process: one trial under Tune, or one fit as a task. Thin shells around the training loop."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune
from torch import Tensor

from ser_platform.distillation.losses import student_loss
from ser_platform.features.copying import NO_COPIES, CopiedClips
from ser_platform.features.normaliser import Normaliser
from ser_platform.features.viewed import ViewedFeatures
from ser_platform.settings import Settings
from ser_platform.training.adversary import language_codes
from ser_platform.training.batches import TrainingData
from ser_platform.training.configuration import feature_view, has_adversary
from ser_platform.training.loop import EpochResult
from ser_platform.training.trainers import make_trainer

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """A corpus as trials see it: digests, targets and speakers of all clips, and which to train on and to choose by.

    `languages` are asked by a language adversary only. Small: the features themselves are memory-mapped by each process
    from the store.
    """

    hashes: tuple[str, ...]
    targets: Rows
    labels: tuple[str, ...]
    train: Rows
    dev: Rows | None
    speakers: tuple[str, ...]
    teacher_logits: NDArray[np.float32] | None = None
    copies: CopiedClips = NO_COPIES
    languages: tuple[str | None, ...] = ()

    def data(self, settings: Settings) -> TrainingData:
        """Return the task through a configuration's view."""
        view, dtype = feature_view(settings), settings["features.dtype"]
        teacher = self.teacher_logits if settings["distill.alpha"] > 0 else None
        languages = language_codes(self.languages, self.train) if has_adversary(settings) else None
        if not settings["augment.copies"]:
            features = ViewedFeatures(view, self.hashes, self.speakers, dtype)
            return TrainingData(features, self.targets, self.labels, self.train, self.dev, teacher, languages)
        assert self.copies is not NO_COPIES, "copies are asked for, but none were prepared"
        chosen = self.copies.chosen(settings["augment.recipe"], settings["augment.copies"], self.train)
        originals = self.copies.originals[chosen]
        hashes = (*self.hashes, *(self.copies.hashes[number] for number in chosen))
        speakers = (*self.speakers, *(self.speakers[row] for row in originals))
        targets = np.concatenate([self.targets, self.targets[originals]])
        train = np.concatenate([self.train, len(self.hashes) + np.arange(len(chosen))])
        features = ViewedFeatures(view, hashes, speakers, dtype)
        if languages is not None:
            languages = np.concatenate([languages, languages[originals]])
        return TrainingData(features, targets, self.labels, train, self.dev, teacher, languages)


@dataclass(frozen=True)
class FitJob:
    """One training run.

    Attributes:
        label: clips whose logits are wanted.
        stop_after: ends it after so many epochs.
        start: weights to start from; None draws them by the seed.
    """

    settings: Settings
    task: Task
    label: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    stop_after: int | None = None
    start: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Fit:
    """What a training run gave: weights, normaliser, the best epoch's dev logits, logits of the clips asked for."""

    state: dict[str, Tensor]
    normaliser: Normaliser
    results: list[EpochResult]
    dev_logits: NDArray[np.float32] | None
    label_logits: NDArray[np.float32]

    @property
    def best_dev_uar(self) -> float:
        return self.results[-1].best_dev_uar

    @property
    def best_epoch(self) -> int:
        return self.results[-1].best_epoch


def use_threads(number: int) -> None:
    """Have this process compute on so many threads, and take numbers too small for full precision as 0.

    Recurrent layers come by many of these, each of which costs a CPU a hundred times an ordinary product.
    """
    torch.set_num_threads(number)
    torch.set_flush_denormal(True)


def prepare_process(gpus: float) -> torch.device:
    """Set the process to one thread a slot and return the device that was granted to it, not the one it can see."""
    use_threads(1)  # a reused process keeps whatever the last trial set
    return torch.device("cuda" if gpus else "cpu")


def train_trial(config: dict[str, object], task: Task, gpus: float) -> None:
    """Run one trial; report after every epoch. Trainers seed: in a reused process nothing of the last may linger."""
    settings: Settings = config["settings"]  # type: ignore[assignment]
    device = prepare_process(gpus)
    for result in make_trainer(settings, task.data(settings), student_loss, device).epochs():
        tune.report(asdict(result))


def fit(job: FitJob, gpus: float = 0.0) -> Fit:
    """Run one training run to its end and return what it gave."""
    trainer = make_trainer(job.settings, job.task.data(job.settings), student_loss, prepare_process(gpus))
    results = list(trainer.epochs(job.stop_after))
    trainer.restore_best()
    return Fit(trainer.best_state, trainer.normaliser, results, trainer.best_dev_logits, trainer.logits(job.label))


def seconds_alone(job: FitJob) -> float:
    """Return the least seconds of an epoch: the first also warms caches, and what else the machine does only adds."""
    trainer = make_trainer(job.settings, job.task.data(job.settings), student_loss, prepare_process(0.0))
    return min(result.seconds for result in trainer.epochs(job.stop_after))
