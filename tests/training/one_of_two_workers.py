"""One of two processes that train together; the first also trains alone, and both write records.

    python one_of_two_workers.py RANK FOLDER

FOLDER contains `data.npz`, the training data, and `runs.json`, the settings of each run; writes `records-RANK.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.settings import Settings, resolve
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.checkpoints import read_checkpoint, write_checkpoint
from ser_platform.training.configuration import feature_view
from ser_platform.training.loop import Trainer
from ser_platform.training.workers import SINGLE_WORKER, TorchWorkerGroup, WorkerGroup

CPU = torch.device("cpu")


class RecordingTrainer(Trainer):
    """A trainer that records its part of every step's loss; `memory` is the number of clips that fit into memory."""

    memory = 10_000
    losses: list[Tensor]

    def _train_batch(self, clips: NDArray[np.int64], epoch: int, group: WorkerGroup) -> Tensor:
        lengths = self.data.features.lengths[clips]
        if max(map(len, self._split_rows(lengths)), default=0) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        loss = super()._train_batch(clips, epoch, group)
        if group is self.group:  # otherwise the step only tests the memory
            self.losses.append(loss)
        return loss


def training_data(settings: Settings, arrays: dict[str, np.ndarray]) -> TrainingData:
    features = StoredViewedClips(feature_view(settings), tuple(arrays["hashes"].tolist()))
    teacher = arrays["teacher"] if settings.distill.alpha else None
    labels = tuple(arrays["labels"].tolist())
    return TrainingData(features, arrays["targets"], labels, arrays["train"], arrays["dev"], teacher)


def record(settings: Settings, data: TrainingData, group: WorkerGroup, memory: int, folder: Path) -> dict[str, object]:
    """Return the gradient of the first step, the loss of every one, and the results of the epochs.

    The first worker's checkpoint of the first epoch is written to `folder`.
    """
    trainer = RecordingTrainer(settings, data, make_student_loss, CPU, group)
    trainer.losses, trainer.memory = [], memory
    first: list[Tensor] = []

    def keep(*_: Any) -> None:
        if not trainer.losses:
            first[:] = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]

    trainer.optimizer.register_step_pre_hook(keep)
    assert data.dev is not None
    results = []
    for result in trainer.epochs():
        results.append(result)
        if group.rank == 0 and result.epoch == 1:
            write_checkpoint(trainer.make_checkpoint(), folder)
    return {
        "gradient": torch.cat(first).tolist(),
        "losses": group.sum(torch.stack(trainer.losses)).tolist(),
        "dev_uar": [result.dev_uar for result in results],
        "train_loss": [result.train_loss for result in results],
        "logits": trainer.logits(data.dev).tolist(),
        "weights": weights_of(trainer),
        "accumulate": trainer.accumulate,
    }


def weights_of(trainer: Trainer) -> list[float]:
    return torch.cat([value.double().flatten() for value in trainer.model.state_dict().values()]).tolist()


def resumed_weights(settings: Settings, data: TrainingData, group: WorkerGroup, folder: Path) -> list[float]:
    """Return the final weights of a training that resumes from the first worker's checkpoint."""
    trainer = Trainer(settings, data, make_student_loss, CPU, group)
    trainer.resume(read_checkpoint(folder))
    list(trainer.epochs())
    return weights_of(trainer)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    with np.load(folder / "data.npz") as file:
        arrays = dict(file)
    records = {}
    for number, (name, run) in enumerate(json.loads((folder / "runs.json").read_text()).items()):
        memory = run.pop("memory", [10_000, 10_000])[rank]
        settings = resolve(run)
        data = training_data(settings, arrays)
        kept, workers = folder / f"together-{number}", TorchWorkerGroup(CPU)
        records[name] = {
            "together": record(settings, data, workers, memory, kept),
            "resumed": resumed_weights(settings, data, workers, kept),
        }
        if rank == 0:
            records[name]["alone"] = record(settings, data, SINGLE_WORKER, 10_000, folder / f"alone-{number}")
    (folder / f"records-{rank}.json").write_text(json.dumps(records))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
