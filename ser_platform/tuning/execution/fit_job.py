"""Training in a Ray process: the epochs of a trial, or one training run as a task."""

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
from ser_platform.models.forward_latency import QUICK_RUNS, TIMED_RUNS, measure_forward_ms
from ser_platform.settings import Settings
from ser_platform.training.adversary_loss import encode_languages
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.configuration import feature_view, has_adversary
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.training.trainers import TrainerProtocol, make_trainer
from ser_platform.training.workers import SINGLE_WORKER, WorkerGroup
from ser_platform.tuning.execution.cross_validation import FoldTrainer
from ser_platform.tuning.execution.data_transfer import EMPTY_SHIPMENT, Shipment
from ser_platform.tuning.execution.process_memory import limit_onednn_cache, retain_freed_memory

RowIndices = NDArray[np.int64]
UNLABELLED_TARGET, UNKNOWN_SPEAKER = -1, "unknown"


@dataclass(frozen=True)
class TrialData:
    """The data of trials: audio digests, targets and speakers of all clips, and the rows for training and dev.

    It is small: each process memory-maps the features from the store of its node, after writing those of the `shipment`
    that the node lacks.

    Attributes:
        teacher_outputs: by mode of `distill.outputs`.
        copies: augmented copies of training clips, for `augment.copies`.
        languages: of each clip, for the language adversary.
        hints: (n_all, width) embeddings of the teacher's encoder for clips, copies and unlabelled clips, for
            `distill.hint`.
        unlabelled_hashes: audio digests of the clips of `distill.unlabelled`, which have teacher outputs.
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
        """Return the clips of `split` with targets as indices into `labels`; `dev` is None without dev clips."""
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
        """Audio digests of all clips that a configuration can be trained or evaluated on."""
        return [*self.hashes, *self.copies.hashes, *self.unlabelled_hashes]

    def make_training_data(self, settings: Settings) -> TrainingData:
        """Return the data with a configuration's feature view, teacher outputs and copies."""
        self.shipment.receive(settings)
        view, dtype = feature_view(settings), settings.features.dtype
        distils = settings.distill.alpha > 0
        outputs = self.teacher_outputs[settings.distill.outputs] if distils else None
        unlabelled = self.unlabelled_hashes if distils and settings.distill.unlabelled else ()
        chosen = NO_AUGMENTED_CLIPS.original_rows
        if settings.augment.copies:
            assert self.copies is not NO_AUGMENTED_CLIPS, "the copies of augment.copies were not prepared"
            chosen = self.copies.select_copies(settings.augment.recipe, settings.augment.copies, self.train)
        originals, n_clips, n_copies = self.copies.original_rows[chosen], len(self.hashes), len(self.copies.hashes)
        appended = np.concatenate([chosen, n_copies + np.arange(len(unlabelled))])
        hint_rows = n_clips + appended.astype(np.int64)
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
            train=np.concatenate([self.train, n_clips + np.arange(len(hint_rows))]),
            dev=self.dev,
            teacher_logits=None if outputs is None else outputs.select(chosen, len(unlabelled)),
            languages=languages,
            teacher_embeddings=None if hints is None else np.concatenate([hints[:n_clips], hints[hint_rows]]),
        )


@dataclass(frozen=True)
class FitJob:
    """One training run.

    Attributes:
        label_rows: rows of the clips whose logits are computed at the end.
        stop_after: fixed number of epochs; None for `train.epochs` with early stopping.
        initial_state: weights to start from; None draws them from the seed.
    """

    settings: Settings
    data: TrialData
    label_rows: RowIndices = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    stop_after: int | None = None
    initial_state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class FitResult:
    """The result of a training run, at its best epoch.

    Attributes:
        dev_logits: (n_dev, n_emotions), None without dev clips.
        label_logits: (n_label_rows, n_emotions), logits of the job's `label_rows`.
    """

    state: dict[str, Tensor]
    normaliser: Normaliser
    epoch_results: list[EpochResult]
    dev_logits: NDArray[np.float32] | None
    label_logits: NDArray[np.float32]

    @classmethod
    def from_trainer(
        cls, trainer: TrainerProtocol, epoch_results: list[EpochResult], label_rows: RowIndices
    ) -> "FitResult":
        """Return the result of a trainer after its last epoch, with the best weights."""
        trainer.restore_best()
        logits = trainer.logits(label_rows)
        return cls(trainer.best_state, trainer.normaliser, epoch_results, trainer.best_dev_logits, logits)

    @property
    def best_dev_uar(self) -> float:
        return self.epoch_results[-1].best_dev_uar

    @property
    def best_epoch(self) -> int:
        return self.epoch_results[-1].best_epoch


def use_threads(number: int) -> None:
    """Set the number of threads of this process, and flush denormal numbers to 0.

    Recurrent layers produce many denormals, and a product with one takes a CPU a hundred times longer.
    """
    limit_onednn_cache()
    torch.set_num_threads(number)
    torch.set_flush_denormal(True)


def prepare_process(gpus: float, cpus: int = 1) -> torch.device:
    """Set one thread for each core of the trial; return the granted device: a CPU trial detects GPUs too."""
    retain_freed_memory()
    use_threads(cpus)  # a reused process has the setting of its last trial
    return torch.device("cuda" if gpus else "cpu")


@dataclass(frozen=True)
class TrialJob:
    """The data, metrics and resources of all trials of a study.

    Attributes:
        fold_data: one, or one for each fold.
        metrics: names of `TRIAL_METRICS`; those of trained models are reported with each epoch.
        cpus, gpus: CPU cores of a trial and its share of a GPU.
    """

    fold_data: tuple[TrialData, ...]
    metrics: tuple[str, ...] = ()
    cpus: int = 1
    gpus: float = 0.0


def train_trial_epochs(settings: Settings, job: TrialJob) -> Iterator[dict[str, float]]:
    """Train one configuration; yield each epoch's metrics, the mean over folds if there are several.

    The trainer seeds all generators, so that a reused process has no state of its last trial.

    Raises:
        Diverged: a loss is not finite.
    """
    device = prepare_process(job.gpus, job.cpus)
    trainer, epochs = _make_trainer(settings, job.fold_data, device)
    seconds, forward_ms = 0.0, 0.0
    for result in epochs:
        runs = TIMED_RUNS if "forward_ms" in job.metrics else QUICK_RUNS
        forward_ms = forward_ms or round(measure_longest_clip_ms(trainer.model, settings, runs), 3)
        seconds += result.seconds
        spent = {"train_seconds": seconds} if "train_seconds" in job.metrics else {}
        yield asdict(result) | {"forward_ms": forward_ms} | spent


def _make_trainer(
    settings: Settings, fold_data: Sequence[TrialData], device: torch.device
) -> tuple[TrainerProtocol, Iterator[EpochResult]]:
    """Return the trainer of the configuration (of the first of several folds) and the results of its epochs."""
    if len(fold_data) == 1:
        trainer = make_trainer(settings, fold_data[0].make_training_data(settings), make_student_loss, device)
        return trainer, trainer.epochs()
    n_epochs, patience = settings.train.epochs, settings.train.patience
    # A single fold does not stop early: patience applies to the mean over folds.
    own = settings.with_overrides({"train.patience": n_epochs})
    makers = [partial(make_trainer, own, data.make_training_data(own), make_student_loss, device) for data in fold_data]
    folds = FoldTrainer(makers, device)
    return folds.trainers[0], folds.epochs(patience)


def measure_longest_clip_ms(model: nn.Module, settings: Settings, runs: int = TIMED_RUNS) -> float:
    """Return the median milliseconds of a forward pass on a clip of the longest duration, on one CPU thread."""
    view = feature_view(settings)
    frames = 1 if view.is_pooled else view.max_frames
    inputs = torch.zeros(1, frames, view.n_features), torch.tensor([frames])
    return measure_forward_ms(deepcopy(model).cpu().eval(), *inputs, runs=runs)


def make_job_trainer(job: FitJob, device: torch.device, group: WorkerGroup = SINGLE_WORKER) -> TrainerProtocol:
    """Return the trainer of one training run, as worker of `group`."""
    return make_trainer(job.settings, job.data.make_training_data(job.settings), make_student_loss, device, group)


def fit(job: FitJob, gpus: float = 0.0, cpus: int = 1) -> FitResult:
    """Run one training run to its end; return its result."""
    trainer = make_job_trainer(job, prepare_process(gpus, cpus))
    return FitResult.from_trainer(trainer, list(trainer.epochs(job.stop_after)), job.label_rows)
