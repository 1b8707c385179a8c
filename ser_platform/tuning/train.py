"""`ser train`: one configuration, trained once on each fold of a split, without a search.

One fold gives a model: scored once on its test clips and registered as the candidate. Several folds give a figure: the
predictions of all folds are pooled and scored together, and nothing is registered.
"""

import csv
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ser_platform.corpora.splits import Split, stamp_of
from ser_platform.distillation.losses import student_loss
from ser_platform.errors import UserError, WorkFailed
from ser_platform.evaluation.figures import confusion_figure
from ser_platform.evaluation.ledger import record_read
from ser_platform.evaluation.scoring import TestScore, score_clips
from ser_platform.features.copying import NO_COPIES, prepare_copies
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.progress import Display, clock
from ser_platform.settings import Settings, resolve
from ser_platform.tracking.registry import RegisteredModel
from ser_platform.tracking.runs import StudyRuns
from ser_platform.tracking.store import Client, experiment_id, open_client
from ser_platform.training.configuration import feature_view, parameters_of, refuse_contradictions, stamped
from ser_platform.training.fitting import start_of_classical
from ser_platform.training.loop import EpochResult
from ser_platform.training.trainers import make_trainer
from ser_platform.tuning.candidate import Origin, Teacher, code_version, find_teacher, pack, score_and_register
from ser_platform.tuning.cluster import cluster
from ser_platform.tuning.extraction import mapper
from ser_platform.tuning.study import trial_tags
from ser_platform.tuning.teaching import FoldTeachers
from ser_platform.tuning.trainable import Fit, Task

# Where a role starts from; --set changes any of it.
STARTS: dict[str, Settings] = {
    "teacher": {"train.epochs": 24, "train.patience": 10},
    "student": {
        "model.width": 12,
        "model.hidden_size": 48,
        "train.epochs": 30,
        "train.patience": 10,
        "optimizer.lr": 4e-3,
    },
}
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Trained:
    """What a training came to: the (pooled) test score, and the registered model where there was one fold."""

    name: str
    role: str
    dataset: Dataset
    settings: Settings
    parameters: int
    dev_uar: float
    score: TestScore
    looks: int
    model: RegisteredModel | None
    seconds: float

    @property
    def protocol(self) -> str:
        """The stamp of all its folds, and what the settings add to it."""
        return stamped(stamp_of(self.dataset.splits), self.settings)


def train(role: str, data: DataRequest, overrides: Settings, device: str, display: Display) -> Trained:
    """Train one configuration on every fold that is asked for.

    Args:
        overrides: settings in place of the role's.
        device: one of `DEVICES`; this process has the machine, so `auto` takes a GPU that it sees.

    Raises:
        UserError: the request cannot be met.
    """
    began = time.monotonic()
    settings = resolve(STARTS[role] | start_of_classical(overrides) | overrides)
    view = feature_view(settings)  # refuses an unknown architecture, and feature sets that do not go together
    refuse_contradictions(settings)
    where = chosen_device(device)
    request = data.with_labels(settings["data.labels"])
    dtype = settings["features.dtype"]
    dataset = prepare_dataset(request, display, names=view.needs, mapper=mapper(), dtype=dtype)
    client = open_client()
    teachers = _teachers(client, dataset, settings)
    for bundle in (teacher.bundle for teacher in teachers if teacher):
        add_features(dataset, bundle.view.needs, bundle.settings["features.dtype"], display)
    run = _Training(role, dataset, settings, where, client, display, teachers)
    return run.run(began)


def chosen_device(name: str) -> torch.device:
    """Return the device called `name`.

    Raises:
        UserError: this machine does not have it.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if has[kind])
    if not has.get(name, False):
        raise UserError(f"--device {name}: not here; there is {', '.join(kind for kind in has if has[kind])}")
    return torch.device(name)


def _teachers(client: Client, dataset: Dataset, settings: Settings) -> list[Teacher | None]:
    if settings["distill.alpha"] == 0:
        return [None] * len(dataset.splits)
    return [find_teacher(client, dataset, split) for split in dataset.splits]


class _Training:
    """The folds of one training, written to MLflow as a study of its own."""

    def __init__(
        self,
        role: str,
        dataset: Dataset,
        settings: Settings,
        device: torch.device,
        client: Client,
        display: Display,
        teachers: list[Teacher | None],
    ) -> None:
        self.role, self.dataset, self.settings, self.device = role, dataset, settings, device
        self.client, self.display, self.teachers = client, display, teachers
        # Random letters: two trainings that begin in one second are two, in the store and in the ledger.
        self.name = f"train-{role}-{dataset.name}-{time.strftime('%y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        first = dataset.splits[0]
        tags = {
            "role": role,
            "corpus": dataset.name,
            "protocol": stamped(stamp_of(dataset.splits), settings),
            "manifest": first.manifest.fingerprint,
            "split": first.fingerprint,
            "code_version": code_version(),
        }
        self.runs = StudyRuns(client, experiment_id(client, f"ser-{dataset.name}"), self.name, tags, trial_tags)

    def run(self, began: float) -> Trained:
        try:
            fits = [self._fit(number, split) for number, split in enumerate(self.dataset.splits)]
            self.runs.close()
            return self._finish(fits, began)
        except BaseException:
            self.runs.close()
            self.runs.finish({}, {"state": "failed"}, "FAILED")
            raise

    def _finish(self, fits: list[Fit], began: float) -> Trained:
        dev_uar = float(np.mean([fit.best_dev_uar for fit in fits]))
        model = None
        if len(fits) == 1:
            fit, split, settings = fits[0], self.dataset.split, self.settings
            origin = Origin(self.role, self.dataset, split, self.name, 0, code_version(), self.teachers[0])
            bundle = pack(origin, fit, settings, split, fit.best_epoch, {"dev_uar": dev_uar})
            score, model, looks = score_and_register(origin, bundle, self.client, self.runs.parent_id)
        else:
            score, looks = self._pool(fits)
        parameters = parameters_of(self.settings, len(self.dataset.labels), fits[0].state)
        figures = {"dev_uar": dev_uar, "parameters": float(parameters), **score.metrics}
        registered = {} if model is None else {"registered": model.title}
        self.runs.finish(figures, {"state": "finished", **registered})
        seconds = time.monotonic() - began
        return Trained(
            self.name, self.role, self.dataset, self.settings, parameters, dev_uar, score, looks, model, seconds
        )

    def _fit(self, number: int, split: Split) -> Fit:
        task = self._task(number, split)
        torch.set_num_threads(1)  # models of this size wait for a second thread longer than it computes
        trainer = make_trainer(self.settings, task.data(self.settings), student_loss, self.device)
        self.runs.start(number, self.settings)
        results: list[EpochResult] = []
        what = f"{self.role} fold {split.fold}" if split.fold else self.role
        began = time.monotonic()
        try:
            with self.display.following(lambda: self._line(what, results, began)) as show:
                show()
                for result in trainer.epochs():
                    results.append(result)
                    self.runs.epoch(number, asdict(result))
                    show()
        except WorkFailed as failure:
            self.runs.end(number, "failed", {}, str(failure))
            raise
        seconds = sum(result.seconds for result in results)
        self.runs.end(number, "complete", {"epochs": len(results), "train_seconds": seconds}, "")
        trainer.restore_best()
        return Fit(trainer.best_state, trainer.normaliser, results, trainer.best_dev_logits, trainer.logits(split.test))

    def _task(self, number: int, split: Split) -> Task:
        manifest, labels = split.manifest, self.dataset.labels
        teacher, logits = self.teachers[number], None
        if teacher is not None:
            with cluster() as where:
                folds = FoldTeachers(
                    split,
                    teacher.bundle.settings,
                    teacher.epochs,
                    teacher.model.tags["digest"],
                    where,
                    self.display.counting,
                )
                logits = folds.logits(split)
        hashes = tuple(manifest.column("audio_sha256"))
        speakers = tuple(manifest.column("speaker"))
        copies = NO_COPIES
        if self.settings["augment.copies"]:
            wanted = [(self.settings["augment.recipe"], self.settings["augment.copies"])]
            names = feature_view(self.settings).needs
            with self.display.counting(f"{self.role}: copies of training clips made") as progress:
                dtype = self.settings["features.dtype"]
                copies = prepare_copies(split, wanted, names, progress, mapper=mapper(), dtype=dtype)
        return Task(hashes, manifest.targets(labels), labels, split.train, split.dev, speakers, logits, copies)

    def _line(self, what: str, results: list[EpochResult], began: float) -> str:
        epochs, elapsed = self.settings["train.epochs"], clock(time.monotonic() - began)
        if not results:
            return f"{what}: epoch 0/{epochs}"
        last = results[-1]
        return (
            f"{what}: epoch {last.epoch}/{epochs}  train loss {last.train_loss:.3f}  dev loss {last.dev_loss:.3f}  "
            f"dev UAR {last.dev_uar:.3f}, best {last.best_dev_uar:.3f} in epoch {last.best_epoch}  {elapsed}"
        )

    def _pool(self, fits: list[Fit]) -> tuple[TestScore, int]:
        """Score the test predictions of all folds together; log them. Returns the most looks at any fold's clips."""
        splits, labels = self.dataset.splits, self.dataset.labels
        rows = np.concatenate([split.test for split in splits])
        predictions = np.concatenate([fit.label_logits.argmax(axis=1) for fit in fits])
        clips = splits[0].manifest.take(rows)
        score = score_clips(clips, labels, predictions)
        looks = max(
            record_read(split.test_fingerprint, f"{self.name}/{number}", f"{self.role} of {self.name}")
            for number, split in enumerate(splits)
        )
        folds = np.repeat([split.fold for split in splits], [len(split.test) for split in splits])
        with TemporaryDirectory() as scratch:
            protocol = stamped(stamp_of(splits), self.settings)
            title = f"{self.name}: pooled UAR {score.uar.value:.3f}, protocol {protocol}"
            confusion_figure(score.matrix, labels, title, Path(scratch) / "confusion_matrix.png")
            with (Path(scratch) / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "fold", "seed", "truth", "predicted"])
                for path, fold, truth, predicted in zip(
                    clips.column("path"), folds, clips.column("emotion"), predictions, strict=True
                ):
                    writer.writerow([path, fold, self.settings["seed"], truth, labels[predicted]])
            self.client.log_artifacts(self.runs.parent_id, scratch, "test")
        return score, looks
