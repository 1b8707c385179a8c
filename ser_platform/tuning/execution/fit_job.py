"""What runs in a Ray process: the epochs of a trial, or one fit as a task. Thin shells around the training loop."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.distillation.student_loss import student_loss
from ser_platform.features.augmented_clips import NO_COPIES, CopiedClips
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.viewed_clips import ViewedFeatures
from ser_platform.models.forward_latency import GLANCE, RUNS, latency_ms
from ser_platform.settings import Settings
from ser_platform.training.adversary_loss import language_codes
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.configuration import feature_view, has_adversary
from ser_platform.training.hint_loss import OFF
from ser_platform.training.loop import EpochResult
from ser_platform.training.trainers import Training, make_trainer
from ser_platform.tuning.execution.cross_validation import FoldTraining
from ser_platform.tuning.execution.data_transfer import NOTHING, Shipment
from ser_platform.tuning.execution.process_memory import forget_old_shapes, keep_freed_memory

Rows = NDArray[np.int64]
UNLABELLED, NOBODY = -1, "nobody"


@dataclass(frozen=True)
class Task:
    """A corpus as trials see it: digests, targets and speakers of all clips, and which to train on and to choose by.

    `teacher` is what it says by `distill.outputs`; `unlabelled` are digests of more clips that it has labelled, where
    `distill.unlabelled` may ask for them; `hints` its encoder's embeddings of all clips, behind them of their copies
    and behind these of the unlabelled, `(n_all, width)`, where `distill.hint` may ask; `languages` are asked by a
    language adversary only. Small: the features themselves are memory-mapped by each process from the store of its
    node, into which it first brings what the `shipment` has and the node lacks.
    """

    hashes: tuple[str, ...]
    targets: Rows
    labels: tuple[str, ...]
    train: Rows
    dev: Rows | None
    speakers: tuple[str, ...]
    teacher: Mapping[str, TeacherOutputs] = field(default_factory=dict)
    copies: CopiedClips = NO_COPIES
    languages: tuple[str | None, ...] = ()
    shipment: Shipment = NOTHING
    hints: NDArray[np.float32] | None = None
    unlabelled: tuple[str, ...] = ()

    @property
    def everything(self) -> list[str]:
        """Digests of all that a configuration can train on or be judged by."""
        return [*self.hashes, *self.copies.hashes, *self.unlabelled]

    def data(self, settings: Settings) -> TrainingData:
        """Return the task through a configuration's view."""
        self.shipment.receive(settings)
        view, dtype = feature_view(settings), settings["features.dtype"]
        distils = settings["distill.alpha"] > 0
        said = self.teacher[settings["distill.outputs"]] if distils else None
        more = self.unlabelled if distils and settings["distill.unlabelled"] else ()
        chosen = NO_COPIES.originals
        if settings["augment.copies"]:
            assert self.copies is not NO_COPIES, "copies are asked for, but none were prepared"
            chosen = self.copies.chosen(settings["augment.recipe"], settings["augment.copies"], self.train)
        originals, n_clips, n_copies = self.copies.originals[chosen], len(self.hashes), len(self.copies.hashes)
        behind = n_clips + np.concatenate([chosen, n_copies + np.arange(len(more))]).astype(np.int64)  # rows of hints
        languages = language_codes(self.languages, self.train) if has_adversary(settings) else None
        if languages is not None:
            languages = np.concatenate([languages, languages[originals], np.zeros(len(more), dtype=np.int64)])
        hints = self.hints if settings["distill.hint"] != OFF else None
        hashes = (*self.hashes, *(self.copies.hashes[number] for number in chosen), *more)
        speakers = (*self.speakers, *(self.speakers[row] for row in originals), *(NOBODY for _ in more))
        return TrainingData(
            ViewedFeatures(view, hashes, speakers, dtype),
            np.concatenate([self.targets, self.targets[originals], np.full(len(more), UNLABELLED)]),
            self.labels,
            np.concatenate([self.train, n_clips + np.arange(len(behind))]),
            self.dev,
            None if said is None else said.among(chosen, len(more)),
            languages,
            None if hints is None else np.concatenate([hints[:n_clips], hints[behind]]),
        )


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
    forget_old_shapes()
    torch.set_num_threads(number)
    torch.set_flush_denormal(True)


def prepare_process(gpus: float, cpus: int = 1) -> torch.device:
    """Set the process to a thread for each of its cores; return the device granted to it, not the one it can see."""
    keep_freed_memory()
    use_threads(cpus)  # a reused process keeps whatever the last trial set
    return torch.device("cuda" if gpus else "cpu")


@dataclass(frozen=True)
class TrialJob:
    """What all trials of a study train on, by what means, and what each is to measure.

    Attributes:
        tasks: one, or one a fold.
        measures: names of `measures.MEASURES`; those that only a trained model tells are told beside each epoch.
        cpus, gpus: CPU cores of a trial and its share of a GPU.
    """

    tasks: tuple[Task, ...]
    measures: tuple[str, ...] = ()
    cpus: int = 1
    gpus: float = 0.0


def trial_epochs(settings: Settings, job: TrialJob) -> Iterator[dict[str, float]]:
    """Train one configuration; yield each epoch's figures, the mean over folds where there are any.

    Trainers seed: in a reused process nothing of the last trial may linger.

    Raises:
        Diverged: a loss is no longer a number.
    """
    device = prepare_process(job.gpus, job.cpus)
    trainer, epochs = _training(settings, job.tasks, device)
    seconds, latency = 0.0, 0.0
    for result in epochs:
        seconds += result.seconds
        runs = RUNS if "latency_ms" in job.measures else GLANCE
        latency = latency or round(heard_latency_ms(trainer.model, settings, runs), 3)
        judged = {"train_seconds": seconds} if "train_seconds" in job.measures else {}
        yield asdict(result) | {"latency_ms": latency} | judged


def _training(
    settings: Settings, tasks: Sequence[Task], device: torch.device
) -> tuple[Training, Iterator[EpochResult]]:
    """Return a trainer of the configuration, of the first fold where there are several, and the epochs of all."""
    if len(tasks) == 1:
        trainer = make_trainer(settings, tasks[0].data(settings), student_loss, device)
        return trainer, trainer.epochs()
    n_epochs, patience = settings["train.epochs"], settings["train.patience"]
    own = settings | {"train.patience": n_epochs}  # a fold does not end by itself: patience is of the mean
    makers = [partial(make_trainer, own, task.data(own), student_loss, device) for task in tasks]
    folds = FoldTraining(makers, device)
    return folds.trainers[0], folds.epochs(patience)


def heard_latency_ms(model: nn.Module, settings: Settings, runs: int = RUNS) -> float:
    """Return the median milliseconds of forward passes on the longest clip that a model hears, on one CPU thread."""
    view = feature_view(settings)
    frames = 1 if view.is_pooled else view.max_frames
    heard = torch.zeros(1, frames, view.n_features), torch.tensor([frames])
    return latency_ms(deepcopy(model).cpu().eval(), *heard, runs=runs)


def fit(job: FitJob, gpus: float = 0.0, cpus: int = 1) -> Fit:
    """Run one training run to its end and return what it gave."""
    device = prepare_process(gpus, cpus)
    trainer = make_trainer(job.settings, job.task.data(job.settings), student_loss, device)
    results = list(trainer.epochs(job.stop_after))
    trainer.restore_best()
    return Fit(trainer.best_state, trainer.normaliser, results, trainer.best_dev_logits, trainer.logits(job.label))


def seconds_alone(job: FitJob, gpus: float = 0.0, cpus: int = 1) -> float:
    """Return the least seconds of an epoch: the first also warms caches, and what else the machine does only adds."""
    device = prepare_process(gpus, cpus)
    trainer = make_trainer(job.settings, job.task.data(job.settings), student_loss, device)
    return min(result.seconds for result in trainer.epochs(job.stop_after))
