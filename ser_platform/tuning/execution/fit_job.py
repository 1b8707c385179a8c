"""What runs in a Ray process: the epochs of a trial, or one fit as a task. Thin shells around the training loop."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_platform.corpora.splits.split import Split
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, AugmentedClips
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.models.forward_latency import QUICK_RUNS, TIMED_RUNS, measure_latency_ms
from ser_platform.settings import Settings
from ser_platform.training.adversary_loss import encode_languages
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.configuration import feature_view, has_adversary
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.training.trainers import TrainerProtocol, make_trainer
from ser_platform.tuning.execution.cross_validation import FoldTrainer
from ser_platform.tuning.execution.data_transfer import EMPTY_SHIPMENT, Shipment
from ser_platform.tuning.execution.process_memory import limit_onednn_cache, retain_freed_memory

RowIndices = NDArray[np.int64]
UNLABELLED_TARGET, UNKNOWN_SPEAKER = -1, "nobody"


@dataclass(frozen=True)
class TrialData:
    """A corpus as trials see it: digests, targets and speakers of all clips, and which to train on and to choose by.

    `teacher_outputs` is what it says by `distill.outputs`; `unlabelled_hashes` are digests of more clips that it has
    labelled, where `distill.unlabelled` may ask for them; `hints` its encoder's embeddings of all clips, behind them of
    their copies and behind these of the unlabelled, `(n_all, width)`, where `distill.hint` may ask; `languages` are
    asked by a language adversary only. Small: the features themselves are memory-mapped by each process from the store
    of its node, into which it first brings what the `shipment` has and the node lacks.
    """

    hashes: tuple[str, ...]
    targets: RowIndices
    labels: tuple[str, ...]
    train: RowIndices
    dev: RowIndices | None
    speakers: tuple[str, ...]
    teacher_outputs: Mapping[str, TeacherOutputs] = field(default_factory=dict)
    copies: AugmentedClips = NO_AUGMENTED_CLIPS
    languages: tuple[str | None, ...] = ()
    shipment: Shipment = EMPTY_SHIPMENT
    hints: NDArray[np.float32] | None = None
    unlabelled_hashes: tuple[str, ...] = ()

    @classmethod
    def from_split(
        cls,
        split: Split,
        labels: tuple[str, ...],
        teacher_outputs: Mapping[str, TeacherOutputs] | None = None,
        copies: AugmentedClips = NO_AUGMENTED_CLIPS,
        hints: NDArray[np.float32] | None = None,
        unlabelled_hashes: tuple[str, ...] = (),
    ) -> "TrialData":
        """Return the clips of `split`, their targets as indices into `labels`; without dev clips, `dev` is None."""
        manifest = split.manifest
        return cls(
            hashes=tuple(manifest.column("audio_sha256")),
            targets=manifest.encode_targets(labels),
            labels=labels,
            train=split.train,
            dev=split.dev if len(split.dev) else None,
            speakers=tuple(manifest.column("speaker")),
            teacher_outputs=teacher_outputs or {},
            copies=copies,
            languages=tuple(manifest.column("language")),
            hints=hints,
            unlabelled_hashes=unlabelled_hashes,
        )

    @property
    def all_hashes(self) -> list[str]:
        """Digests of all that a configuration can train on or be judged by."""
        return [*self.hashes, *self.copies.hashes, *self.unlabelled_hashes]

    def make_training_data(self, settings: Settings) -> TrainingData:
        """Return the task through a configuration's view."""
        self.shipment.receive(settings)
        view, dtype = feature_view(settings), settings.features.dtype
        distils = settings.distill.alpha > 0
        outputs = self.teacher_outputs[settings.distill.outputs] if distils else None
        unlabelled = self.unlabelled_hashes if distils and settings.distill.unlabelled else ()
        chosen = NO_AUGMENTED_CLIPS.original_rows
        if settings.augment.copies:
            assert self.copies is not NO_AUGMENTED_CLIPS, "copies are asked for, but none were prepared"
            chosen = self.copies.select_copies(settings.augment.recipe, settings.augment.copies, self.train)
        originals, n_clips, n_copies = self.copies.original_rows[chosen], len(self.hashes), len(self.copies.hashes)
        appended_rows = n_clips + np.concatenate([chosen, n_copies + np.arange(len(unlabelled))]).astype(
            np.int64
        )  # rows of hints
        languages = encode_languages(self.languages, self.train) if has_adversary(settings) else None
        if languages is not None:
            languages = np.concatenate([languages, languages[originals], np.zeros(len(unlabelled), dtype=np.int64)])
        hints = self.hints if settings.distill.hint != NO_HINT else None
        hashes = (*self.hashes, *(self.copies.hashes[number] for number in chosen), *unlabelled)
        speakers = (*self.speakers, *(self.speakers[row] for row in originals), *(UNKNOWN_SPEAKER for _ in unlabelled))
        return TrainingData(
            features=StoredViewedClips(view, hashes, speakers, dtype),
            targets=np.concatenate(
                [self.targets, self.targets[originals], np.full(len(unlabelled), UNLABELLED_TARGET)]
            ),
            labels=self.labels,
            train=np.concatenate([self.train, n_clips + np.arange(len(appended_rows))]),
            dev=self.dev,
            teacher_logits=None if outputs is None else outputs.select(chosen, len(unlabelled)),
            languages=languages,
            teacher_embeddings=None if hints is None else np.concatenate([hints[:n_clips], hints[appended_rows]]),
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
    data: TrialData
    label_rows: RowIndices = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    stop_after: int | None = None
    initial_state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class FitResult:
    """What a training run gave: weights, normaliser, the best epoch's dev logits, logits of the clips asked for."""

    state: dict[str, Tensor]
    normaliser: Normaliser
    epoch_results: list[EpochResult]
    dev_logits: NDArray[np.float32] | None
    label_logits: NDArray[np.float32]

    @property
    def best_dev_uar(self) -> float:
        return self.epoch_results[-1].best_dev_uar

    @property
    def best_epoch(self) -> int:
        return self.epoch_results[-1].best_epoch


def use_threads(number: int) -> None:
    """Have this process compute on so many threads, and take numbers too small for full precision as 0.

    Recurrent layers come by many of these, each of which costs a CPU a hundred times an ordinary product.
    """
    limit_onednn_cache()
    torch.set_num_threads(number)
    torch.set_flush_denormal(True)


def prepare_process(gpus: float, cpus: int = 1) -> torch.device:
    """Set the process to a thread for each of its cores; return the device granted to it, not the one it can see."""
    retain_freed_memory()
    use_threads(cpus)  # a reused process keeps whatever the last trial set
    return torch.device("cuda" if gpus else "cpu")


@dataclass(frozen=True)
class TrialJob:
    """What all trials of a study train on, by what means, and what each is to measure.

    Attributes:
        tasks: one, or one a fold.
        measures: names of `metrics.MEASURES`; those that only a trained model tells are told beside each epoch.
        cpus, gpus: CPU cores of a trial and its share of a GPU.
    """

    fold_data: tuple[TrialData, ...]
    metrics: tuple[str, ...] = ()
    cpus: int = 1
    gpus: float = 0.0


def train_trial_epochs(settings: Settings, job: TrialJob) -> Iterator[dict[str, float]]:
    """Train one configuration; yield each epoch's figures, the mean over folds where there are any.

    Trainers seed: in a reused process nothing of the last trial may linger.

    Raises:
        Diverged: a loss is no longer a number.
    """
    device = prepare_process(job.gpus, job.cpus)
    trainer, epochs = _make_trainer(settings, job.fold_data, device)
    seconds, latency = 0.0, 0.0
    for result in epochs:
        seconds += result.seconds
        runs = TIMED_RUNS if "latency_ms" in job.metrics else QUICK_RUNS
        latency = latency or round(measure_longest_clip_ms(trainer.model, settings, runs), 3)
        judged = {"train_seconds": seconds} if "train_seconds" in job.metrics else {}
        yield asdict(result) | {"latency_ms": latency} | judged


def _make_trainer(
    settings: Settings, fold_data: Sequence[TrialData], device: torch.device
) -> tuple[TrainerProtocol, Iterator[EpochResult]]:
    """Return a trainer of the configuration, of the first fold where there are several, and the epochs of all."""
    if len(fold_data) == 1:
        trainer = make_trainer(settings, fold_data[0].make_training_data(settings), make_student_loss, device)
        return trainer, trainer.epochs()
    n_epochs, patience = settings.train.epochs, settings.train.patience
    # A fold does not end by itself: patience is of the mean.
    own = settings.with_overrides({"train.patience": n_epochs})
    makers = [partial(make_trainer, own, task.make_training_data(own), make_student_loss, device) for task in fold_data]
    folds = FoldTrainer(makers, device)
    return folds.trainers[0], folds.epochs(patience)


def measure_longest_clip_ms(model: nn.Module, settings: Settings, runs: int = TIMED_RUNS) -> float:
    """Return the median milliseconds of forward passes on the longest clip that a model hears, on one CPU thread."""
    view = feature_view(settings)
    frames = 1 if view.is_pooled else view.max_frames
    inputs = torch.zeros(1, frames, view.n_features), torch.tensor([frames])
    return measure_latency_ms(deepcopy(model).cpu().eval(), *inputs, runs=runs)


def fit(job: FitJob, gpus: float = 0.0, cpus: int = 1) -> FitResult:
    """Run one training run to its end and return what it gave."""
    device = prepare_process(gpus, cpus)
    trainer = make_trainer(job.settings, job.data.make_training_data(job.settings), make_student_loss, device)
    results = list(trainer.epochs(job.stop_after))
    trainer.restore_best()
    return FitResult(
        trainer.best_state, trainer.normaliser, results, trainer.best_dev_logits, trainer.logits(job.label_rows)
    )


def time_epoch_alone(job: FitJob, gpus: float = 0.0, cpus: int = 1) -> float:
    """Return the least seconds of an epoch: the first also warms caches, and what else the machine does only adds."""
    device = prepare_process(gpus, cpus)
    trainer = make_trainer(job.settings, job.data.make_training_data(job.settings), make_student_loss, device)
    return min(result.seconds for result in trainer.epochs(job.stop_after))
