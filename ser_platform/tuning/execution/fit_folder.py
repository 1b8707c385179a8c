"""The folder of one training run: its epochs, its last checkpoint and its result, which survive a killed process.

`epochs.json` lists the epochs so far, `checkpoint/` is the state from which the run resumes, `fit/` is its result. The
worker that writes the folder and the process that reads it can be on different nodes with shared storage.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ser_platform.errors import SerError, UserError, WorkFailed
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.files import read_json, write_json
from ser_platform.training.checkpoints import CHECKPOINT_FILE, Checkpoint, read_checkpoint, write_checkpoint
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.state_serialisation import prefix_names, results_as_json, results_from_json
from ser_platform.training.workers import SINGLE_WORKER, WorkerGroup
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, make_job_trainer


@dataclass(frozen=True)
class FitFolder:
    """The folder of one training run. Only one process at a time may write it."""

    path: Path

    @property
    def epoch_results(self) -> list[EpochResult]:
        """The epochs so far."""
        path = self.path / "epochs.json"
        return results_from_json(read_json(path)) if path.exists() else []

    def append_epoch(self, result: EpochResult) -> None:
        """Add an epoch, unless it is listed already: epochs after the last checkpoint are trained again on a resume."""
        known = self.epoch_results
        if all(result.epoch != other.epoch for other in known):
            write_json(self.path / "epochs.json", results_as_json([*known, result]))

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, None before the first."""
        folder = self.path / "checkpoint"
        return read_checkpoint(folder) if (folder / CHECKPOINT_FILE).exists() else None

    @property
    def checkpoint_epoch(self) -> int:
        """The epoch after which the run resumes, 0 without a checkpoint."""
        checkpoint = self.checkpoint
        return 0 if checkpoint is None else checkpoint.epoch

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the last checkpoint."""
        write_checkpoint(checkpoint, self.path / "checkpoint")

    @property
    def fit_result(self) -> FitResult | None:
        """The result of the run, None before its end."""
        folder = self.path / "fit"
        if not (folder / CHECKPOINT_FILE).exists():
            return None
        kept = read_checkpoint(folder)
        dev = kept.tensors.get("dev_logits")
        return FitResult(
            state=kept.tensors_under("state"),
            normaliser=Normaliser(kept.tensors["mean"].numpy(), kept.tensors["std"].numpy()),
            epoch_results=results_from_json(kept.metadata["results"]),
            dev_logits=None if dev is None else dev.numpy(),
            label_logits=kept.tensors["label_logits"].numpy(),
        )

    def save_fit(self, fit: FitResult) -> None:
        """Write the result and remove the checkpoint."""
        tensors = {
            **prefix_names("state", fit.state),
            "mean": torch.from_numpy(fit.normaliser.mean),
            "std": torch.from_numpy(fit.normaliser.std),
            "label_logits": torch.from_numpy(fit.label_logits),
        }
        if fit.dev_logits is not None:
            tensors["dev_logits"] = torch.from_numpy(fit.dev_logits)
        write_checkpoint(Checkpoint(tensors, {"results": results_as_json(fit.epoch_results)}), self.path / "fit")
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    @property
    def failure_reason(self) -> str | None:
        """The reason why the run failed, None if it has not."""
        path = self.path / "failure.json"
        return str(read_json(path)["reason"]) if path.exists() else None

    def save_failure(self, error: SerError) -> None:
        """Store the reason of a failure that would repeat if the run were restarted."""
        write_json(self.path / "failure.json", {"reason": str(error), "by_user": isinstance(error, UserError)})

    def clear_failure(self) -> None:
        """Remove the stored failure, so that the run can be tried again."""
        (self.path / "failure.json").unlink(missing_ok=True)

    def raise_failure(self) -> None:
        """Raise the failure that `save_failure` stored, if any: a UserError for wrong input, else WorkFailed."""
        if (reason := self.failure_reason) is not None:
            raise UserError(reason) if read_json(self.path / "failure.json")["by_user"] else WorkFailed(reason)

    def request_stop(self) -> None:
        """Make the run end after its present epoch."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "stop").touch()

    @property
    def is_stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def run_fit(
    job: FitJob,
    folder: FitFolder,
    device: torch.device,
    group: WorkerGroup = SINGLE_WORKER,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> FitResult:
    """Run one training run to its end, from the folder's last checkpoint if there is one; return its result.

    Each worker of a group calls this; worker 0 writes the folder. `on_epoch` is called on each worker after each epoch,
    before its checkpoint: after a kill it can be called twice for an epoch, but misses none. `request_stop` ends the
    run early.
    """
    trainer = make_job_trainer(job, device, group)
    results = trainer.begin(folder.checkpoint, job.initial_state)
    for result in trainer.epochs(job.stop_after):
        results.append(result)
        if group.rank == 0:
            folder.append_epoch(result)
        on_epoch(result)
        is_due = group.rank == 0 and result.epoch % job.settings.train.checkpoint_every == 0
        if is_due and (checkpoint := trainer.make_checkpoint()) is not None:
            folder.save_checkpoint(checkpoint)
        if _broadcast_flag(folder.is_stop_requested, group):
            break
    fit = FitResult.from_trainer(trainer, results, job.label_rows)
    if group.rank == 0:
        folder.save_fit(fit)
    return fit


def _broadcast_flag(flag: bool, group: WorkerGroup) -> bool:
    """Return worker 0's flag on all workers, which may differ for a moment."""
    return bool(group.sum(torch.tensor(float(flag and group.rank == 0))))
