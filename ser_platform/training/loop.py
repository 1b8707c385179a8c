"""The training loop: yields the result of one epoch at a time. It uses no trial, no run and no file."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.errors import UserError, WorkFailed
from ser_platform.features.views.chunks import average_logits
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.models import build_model
from ser_platform.models.model_output import NeuralModel, make_parameter_group
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import (
    Batch,
    TrainingData,
    batch_by_length,
    list_batch_sizes,
    make_batch,
    shuffle_into_batches,
)
from ser_platform.training.batches.batch_augmentation import BatchAugmenter
from ser_platform.training.batches.input_scaling import fit_scale
from ser_platform.training.batches.sampling import add_unlabelled, sample_clips
from ser_platform.training.checkpoints import Checkpoint
from ser_platform.training.cross_entropy import Loss, compute_class_weights, make_hard_label_loss
from ser_platform.training.dev_metrics import NO_DEV_METRICS, compute_dev_metrics
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import make_hint
from ser_platform.training.learning_rate import make_schedule
from ser_platform.training.out_of_memory import OutOfMemory, find_n_parts, is_out_of_memory, make_out_of_memory_error
from ser_platform.training.precision import make_precision
from ser_platform.training.state_serialisation import (
    compute_fingerprint,
    prefix_names,
    read_optimizer_state,
    read_random_state,
    restore_optimizer,
    restore_random,
    results_as_json,
    results_from_json,
)
from ser_platform.training.torch_compat import UncompiledAdamW
from ser_platform.training.train_step import train_step
from ser_platform.training.workers import (
    SINGLE_WORKER,
    WorkerGroup,
    broadcast_first_worker,
    distribute_clips,
    min_clips_per_pass,
)

EVALUATION_BATCH = 64  # clips


class Diverged(WorkFailed):
    """The loss or a weight is not finite."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Trainer:
    """Trains one configuration on one set of clips, alone or as one worker of a group.

    In a group, every worker must create it, iterate over `epochs()` and call `logits`: workers wait for each other and
    get the same results. `train.batch_size` is the size of the whole batch, of which each worker computes a share.

    Attributes:
        results: the results of the finished epochs.
        best_state: weights of the epoch with the best dev UAR; without dev clips, of the last epoch.
        best_dev_logits: logits of the dev clips in that epoch, `(n_dev, n_emotions)`.
        accumulate: number of parts of a worker's share of a batch, as set or as found by `train.auto_batch`.
    """

    def __init__(
        self,
        settings: Settings,
        data: TrainingData,
        make_loss: Callable[[Settings, Tensor | None], Loss] = make_hard_label_loss,
        device: torch.device | None = None,
        group: WorkerGroup = SINGLE_WORKER,
    ) -> None:
        seed_everything(settings.seed)
        self.settings, self.data, self.group = settings, data, group
        self.device = device or torch.device("cpu")
        self.precision = make_precision(settings, self.device)
        self.accumulate: int = settings.train.accumulate
        self.normaliser: Normaliser = data.features.fit_normaliser(data.labelled)
        model = build_model(settings, data.features.view.n_features, len(data.labels)).to(self.device)
        assert isinstance(model, NeuralModel), "models without gradient steps have other trainers"
        self.model: NeuralModel = model
        fit_scale(self.model, data, self.normaliser, self.device)
        hint = make_hint(self.model, settings, data)
        self.hint = None if hint is None else hint.to(self.device)
        modules = [self.model] if self.hint is None else [self.model, self.hint]
        for module in modules:
            # Initial weights of a seed differ in the last bits between processors.
            broadcast_first_worker(module.state_dict().values(), group)
        self._least = min_clips_per_pass(self.model)
        clips = self._sample_clips(epoch=1)
        self._sizes = list_batch_sizes(len(clips), settings.train.batch_size)
        if data.features.view.is_pooled and min(self._sizes) < self._least:
            raise UserError(
                f"train.batch_size {settings.train.batch_size} leaves a batch of one row of {len(clips)} training "
                "clips, and batch normalisation needs two; raise it, or set model.norm to layer"
            )
        targets = data.targets[clips]
        weights = compute_class_weights(targets[targets >= 0], len(data.labels)).to(self.device)
        self.loss = make_loss(settings, weights if settings.train.class_weights else None)
        groups = self.model.parameter_groups(settings)
        if self.hint is not None:
            groups.append(make_parameter_group(self.hint, settings))
        self.optimizer = UncompiledAdamW(groups)
        self.schedule = make_schedule(self.optimizer, settings, settings.train.epochs * len(self._sizes))
        self._rng = np.random.default_rng(settings.seed)
        self._chunks = data.features.view.chunks
        self._augment = BatchAugmenter(settings, len(data.labels), self.device)
        self.results: list[EpochResult] = []
        self.best_state = self._copy_state()
        self.best_dev_logits: NDArray[np.float32] | None = None

    def epochs(self, stop_after: int | None = None) -> Iterator[EpochResult]:
        """Train, and yield the result of each epoch; stop when dev UAR has not risen for `train.patience` epochs.

        After `resume`, only the remaining epochs are yielded. `stop_after` is a number of epochs after which to stop,
        without a change of the learning rate schedule.

        Raises:
            Diverged: the loss is not finite.
            OutOfMemory: a batch does not fit into memory.
        """
        n_epochs = self.settings.train.epochs
        if self.settings.train.auto_batch and not self.results:
            self._find_accumulate()
        while len(self.results) < min(n_epochs, stop_after or n_epochs) and not self._is_patience_exhausted():
            self.results.append(self._run_epoch(len(self.results) + 1))
            yield self.results[-1]

    def logits(self, clips: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `(n_clips, n_emotions)` of the present weights, in the order of `clips`.

        They are computed in float32 as in predictions, independent of `train.precision`.

        Raises OutOfMemory where a batch does not fit into memory.
        """
        self.model.eval()
        lengths = self.data.features.lengths[clips]
        logits = np.zeros((len(clips), len(self.data.labels)), dtype=np.float32)
        rows = share = distribute_clips(lengths, self.group.size)[self.group.rank]
        # Without gradients at least twice the clips of a part of a training batch fit into memory.
        size = max(1, min(EVALUATION_BATCH, 2 * self.settings.train.batch_size // self.accumulate))
        try:
            with torch.inference_mode():
                for rows in batch_by_length(share, lengths, size):
                    batch = make_batch(self.data, clips[rows], self.normaliser).to(self.device)
                    found = average_logits(self.model, batch.features, batch.lengths, self._chunks)
                    logits[rows] = found.cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory_error(clips[rows], n_parts=1) from error
        return self.group.sum(torch.from_numpy(logits)).numpy()  # each row is zero on all workers except one

    def restore_best(self) -> None:
        """Load the best epoch's weights into the model."""
        self.model.load_state_dict(self.best_state)

    def begin(self, checkpoint: Checkpoint | None, initial_state: Mapping[str, Tensor] | None) -> list[EpochResult]:
        """Load a checkpoint or else initial weights, and return the results of the finished epochs.

        `initial_state` contains every parameter and buffer; None keeps the random weights.
        """
        if checkpoint is not None:
            self.resume(checkpoint)
        elif initial_state is not None:
            self.model.load_state_dict(initial_state)
            self.best_state = self._copy_state()
        return list(self.results)

    def make_checkpoint(self) -> Checkpoint:
        """Return the state after the last epoch; the checkpoint of worker 0 is enough to resume all workers."""
        moments, groups = read_optimizer_state(self.optimizer)
        generators, states = read_random_state(self.device)
        tensors = {
            **prefix_names("model", self.model.state_dict()),
            **prefix_names("best", self.best_state),
            **prefix_names("hint", {} if self.hint is None else self.hint.state_dict()),
            **prefix_names("optimizer", moments),
            **prefix_names("random", {**generators, "noise": self._augment.noise.get_state()}),
        }
        if self.best_dev_logits is not None:
            tensors["best_dev_logits"] = torch.from_numpy(self.best_dev_logits)
        description = {
            "settings": self.settings.dotted(),
            "data": compute_fingerprint(self.data),
            "device": self.device.type,
            "results": results_as_json(self.results),
            "accumulate": self.accumulate,
            "groups": groups,
            "schedule": self.schedule.state_dict(),
            "scaler": None if self.precision.scaler is None else self.precision.scaler.state_dict(),
            "random": states,
            "batches": self._rng.bit_generator.state,
            "augment": self._augment.rng.bit_generator.state,
        }
        return Checkpoint(tensors, description)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Load the state of `make_checkpoint`; on the same machine the next epochs are the same bit for bit.

        Raises UserError where the checkpoint has other settings or other clips.
        """
        metadata = checkpoint.metadata
        self._refuse_other_training(metadata)
        self.model.load_state_dict(checkpoint.tensors_under("model"))
        self.best_state = checkpoint.tensors_under("best")
        if self.hint is not None:
            self.hint.load_state_dict(checkpoint.tensors_under("hint"))
        logits = checkpoint.tensors.get("best_dev_logits")
        self.best_dev_logits = None if logits is None else logits.numpy()
        self.results = results_from_json(metadata["results"])
        self.accumulate = metadata["accumulate"]
        restore_optimizer(self.optimizer, checkpoint.tensors_under("optimizer"), metadata["groups"])
        self.schedule.load_state_dict(metadata["schedule"])
        if self.precision.scaler is not None:
            self.precision.scaler.load_state_dict(metadata["scaler"])
        self._rng.bit_generator.state = metadata["batches"]
        self._augment.rng.bit_generator.state = metadata["augment"]
        if metadata["device"] == self.device.type:  # another kind of device has another generator
            self._augment.noise.set_state(checkpoint.tensors["random.noise"])
        restore_random(self.device, checkpoint.tensors_under("random"), metadata["random"])

    def _refuse_other_training(self, metadata: dict[str, Any]) -> None:
        here, there = self.settings.dotted(), metadata["settings"]
        differing = [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]
        if differing:
            listed = ", ".join(f"{name} {there.get(name)} instead of {here.get(name)}" for name in differing)
            raise UserError(f"the checkpoint has other settings: {listed}; remove it to start again")
        if metadata["data"] != compute_fingerprint(self.data):
            raise UserError("the checkpoint has other training or dev clips; remove it to start again")

    def _is_patience_exhausted(self) -> bool:
        return bool(self.results) and len(self.results) - self.results[-1].best_epoch >= self.settings.train.patience

    def _sample_clips(self, epoch: int) -> NDArray[np.int64]:
        how, seed, clips = self.settings.train.sampling, self.settings.seed, self.data.labelled
        labelled = sample_clips(clips, self.data.targets, how, seed=seed, epoch=epoch)
        return add_unlabelled(labelled, self.data.unlabelled, seed=seed, epoch=epoch)

    def _run_epoch(self, epoch: int) -> EpochResult:
        began = time.perf_counter()
        train_loss = self._train_epoch(epoch)
        broadcast_first_worker(self.model.buffers(), self.group)
        dev, scores, logits = self.data.dev, NO_DEV_METRICS, None
        if dev is not None:
            logits = self.logits(dev)
            scores = compute_dev_metrics(logits, self.data.targets[dev])
        best = self.results[self.results[-1].best_epoch - 1] if self.results else None
        if best is None or logits is None or (scores["dev_uar"], -scores["dev_loss"]) > (best.dev_uar, -best.dev_loss):
            best_uar, best_epoch = scores["dev_uar"], epoch
            self.best_state, self.best_dev_logits = self._copy_state(), logits
        else:
            best_uar, best_epoch = best.dev_uar, best.epoch
        return EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            **scores,
            best_dev_uar=best_uar,
            best_epoch=best_epoch,
            seconds=time.perf_counter() - began,
        )

    def _train_epoch(self, epoch: int) -> float:
        if self.group.rank > 0:  # dropout differs from worker 0's, and needs no state in the checkpoint
            own = np.random.SeedSequence((self.settings.seed, self.group.rank, epoch))
            torch.manual_seed(int(own.generate_state(1)[0]))
        lengths, size = self.data.features.lengths, self.settings.train.batch_size
        batches = shuffle_into_batches(self._sample_clips(epoch), lengths, size, self._rng)
        self.model.train()
        total = torch.zeros((), device=self.device)
        clips = batches[0]
        try:
            for clips in batches:
                total += self._train_batch(clips, epoch, self.group) * len(clips)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory_error(clips, self.accumulate) from error
        mean = float(self.group.sum(total)) / sum(map(len, batches))
        if not math.isfinite(mean):
            raise Diverged(f"loss is {mean} in epoch {epoch}; lower optimizer.lr ({self.settings.optimizer.lr:g})")
        return mean

    def _train_batch(self, clips: NDArray[np.int64], epoch: int, group: WorkerGroup) -> Tensor:
        """Update the model on the batch of `clips`, and return this worker's part of their mean loss in nats."""
        batch = make_batch(self.data, clips, self.normaliser, seed=self.settings.seed, epoch=epoch)
        batch = self._augment(batch.to(self.device))  # frees the unchanged batch
        parts, max_norm = self._split_batch(batch, self.data.features.lengths[clips]), self.settings.train.max_norm
        how = (self.optimizer, max_norm, self._chunks, self.precision, group, self.hint)
        loss = train_step(self.model, parts, self.loss, *how)
        self.schedule.step()
        return loss

    def _split_batch(self, batch: Batch, lengths: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield this worker's share of a batch in parts; nothing where the share is empty."""
        if self.group.size == self.accumulate == 1:
            yield batch
        else:
            yield from map(batch.select_rows, self._split_rows(lengths))

    def _split_rows(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the rows of each part of this worker's share of a batch; `lengths` `(batch,)` in frames."""
        share = distribute_clips(lengths, self.group.size, self._least)[self.group.rank]
        return [share[part] for part in distribute_clips(lengths[share], self.accumulate, self._least) if len(part)]

    def _find_accumulate(self) -> None:
        """Raise `accumulate` until the longest clips fit into the memory of every worker; change nothing else."""
        clips, lengths = self.data.train, self.data.features.lengths
        longest = clips[np.argsort(-lengths[clips], kind="stable")[: max(self._sizes)]]
        before = self.make_checkpoint()

        def attempt(n_parts: int) -> None:
            self.accumulate = n_parts
            self.model.train()
            try:
                self._train_batch(longest, 1, SINGLE_WORKER)
            finally:
                self.optimizer.zero_grad(set_to_none=True)

        found = find_n_parts(attempt, self.accumulate, len(longest), self.group)
        if found is None:
            raise self._out_of_memory_error(longest, self.accumulate)
        self.resume(before)
        self.accumulate = found

    def _out_of_memory_error(self, clips: NDArray[np.int64], n_parts: int) -> OutOfMemory:
        features = self.data.features
        seconds = None if features.view.is_pooled else float(features.lengths[clips].max() * features.view.frame_s)
        return make_out_of_memory_error(self.settings, self.device, len(clips), seconds, n_parts)

    def _copy_state(self) -> dict[str, Tensor]:
        """Return a copy of the weights on the CPU, which later steps do not change."""
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
