"""`ser train`: one configuration, trained once on each fold of a split, without a search.

One fold gives a model: scored once on its test clips and registered as the candidate. Several folds give a figure: the
predictions of all folds are pooled and scored together, and nothing is registered.
"""

import contextlib
import csv
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ser_platform.corpora.splits.split import Split, stamp_of
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.errors import UserError, WorkFailed
from ser_platform.evaluation.scoring import TestScore, score_clips
from ser_platform.evaluation.test_figures import confusion_figure
from ser_platform.evaluation.test_ledger import record_read
from ser_platform.features.augmented_clips import NO_COPIES, CopiedClips, prepare_copies
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.inference.bundle import Bundle
from ser_platform.progress import Display, clock, counted
from ser_platform.settings import Settings, as_json, resolve, runs_folder, slots
from ser_platform.tracking.mlflow_store import Client, experiment_id, open_client
from ser_platform.tracking.registry import RegisteredModel
from ser_platform.tracking.run_artifacts import log_datasets, log_settings
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.adversary_loss import language_codes
from ser_platform.training.closed_form.closed_form_settings import is_fitted, what_is_fitted
from ser_platform.training.configuration import (
    feature_view,
    has_adversary,
    parameters_of,
    pinned,
    refuse_contradictions,
    stamped,
)
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import OFF
from ser_platform.training.precision import precision_of
from ser_platform.tuning.execution.cluster import cluster
from ser_platform.tuning.execution.distributed_fit import Team, fit_together, is_heavy, refuse_workers, team_with
from ser_platform.tuning.execution.fit_folder import FitFolder, kept_fit
from ser_platform.tuning.execution.fit_job import Fit, FitJob, Task, use_threads
from ser_platform.tuning.execution.fit_pool import equipped
from ser_platform.tuning.execution.remote_extraction import mapper
from ser_platform.tuning.search_space.default_settings import start_of
from ser_platform.tuning.teacher_labels.fold_teachers import Teaching
from ser_platform.tuning.teacher_labels.teacher import Teacher, find_teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import Unlabelled, prepare_unlabelled
from ser_platform.workflows.initial_weights import Ancestor, find_ancestor
from ser_platform.workflows.register_candidate import Origin, code_version, pack, score_and_register
from ser_platform.workflows.run_study import trial_tags
from ser_platform.workflows.train_plan import TrainingPlan

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
    protocol: str  # the stamp of all its folds, and what settings and initial weights add to it


@dataclass
class _Epochs:
    """The epochs of a fold, and which of them the store has."""

    results: list[EpochResult]
    logged: set[int]


def train(role: str, data: DataRequest, overrides: Settings, device: str, display: Display, **how: Any) -> Trained:
    """Train one configuration on every fold that is asked for: `carry_out` of a new `TrainingPlan`."""
    return carry_out(TrainingPlan(role, data, overrides, device, **how), display)


def carry_out(plan: TrainingPlan, display: Display) -> Trained:
    """Begin a training, or go on with one that was cut off.

    Without workers this process has the machine, so the device `auto` takes a GPU that it sees.

    Raises:
        UserError: the request cannot be met; before anything is trained.
    """
    began = time.monotonic()
    if plan.workers is not None:
        refuse_workers(plan.workers, plan.device)
    device = chosen_device(plan.device) if plan.workers is None else None
    client = open_client() if plan.init else None
    ancestor = find_ancestor(client, plan.init) if client and plan.init else None
    settings = _settings(plan, ancestor)
    view = feature_view(settings)  # refuses an unknown architecture, and feature sets that do not go together
    refuse_contradictions(settings)
    if device is not None:
        precision_of(settings, device)
    request = plan.data.with_labels(settings["data.labels"])
    dtype = settings["features.dtype"]
    dataset = prepare_dataset(request, display, names=view.needs, mapper=mapper(), dtype=dtype)
    _refuse_untrainable(settings, dataset)
    client = client or open_client()
    teachers = _teachers(client, dataset, settings)
    for needs, stored_as in (each for teacher in teachers if teacher for each in teacher.hears):
        add_features(dataset, needs, stored_as, display)
    unlabelled = _unlabelled(settings, dataset, teachers, display)
    begin = _Beginning(ancestor, dataset, settings, plan.allow_leak)
    if ancestor is not None:
        display.say(ancestor.told(dataset.labels))
    plan.refuse_changed(_facts(dataset, teachers, ancestor, unlabelled))
    with contextlib.nullcontext() if plan.workers is None else cluster():
        team = None if plan.workers is None else team_with(runs_folder(), plan.workers, plan.device, settings)
        if team is not None and team.device != "cuda":  # what a GPU can do its worker knows
            precision_of(settings, torch.device(team.device))
        # Random letters: two trainings that begin in one second are two, in the store and in the ledger.
        plan.name = plan.name or f"train-{plan.role}-{dataset.name}-{_now()}-{uuid.uuid4().hex[:4]}"
        with plan.alone():
            plan.save()
            try:
                training = _Training(
                    plan, dataset, settings, device, team, client, display, teachers, begin, unlabelled
                )
                return training.run(began)
            except UserError:
                if not any(plan.fold(number).results for number in range(len(dataset.splits))):
                    plan.end()  # refused before its first epoch, as it would be again
                raise


def _settings(plan: TrainingPlan, ancestor: Ancestor | None) -> Settings:
    """Return all settings: the user's, else the ancestor's own, else the role's and architecture's."""
    taken = {} if ancestor is None else ancestor.settings
    named = taken | plan.overrides
    settings = pinned(resolve(start_of(plan.role, named, steps=plan.workers is not None) | named))
    if plan.workers is not None and is_fitted(settings):
        raise UserError(f"{what_is_fitted(settings)} is fitted at once, by one process; leave --workers out")
    if ancestor is not None:
        ancestor.refuse_unfit(settings)
    return settings


def _refuse_untrainable(settings: Settings, dataset: Dataset) -> None:
    """Refuse what the model cannot be, or cannot be trained on, before anything is logged or a worker started.

    Raises:
        UserError: names the setting.
    """
    parameters_of(settings, len(dataset.labels))
    if has_adversary(settings):
        for split in dataset.splits:
            language_codes(tuple(split.manifest.column("language")), split.train)


def _facts(
    dataset: Dataset, teachers: list[Teacher | None], ancestor: Ancestor | None, unlabelled: Unlabelled | None
) -> dict[str, Any]:
    """Return what must be the same when a training goes on."""
    return {
        "split": [split.fingerprint for split in dataset.splits],
        "teacher": [teacher.title if teacher else "" for teacher in teachers],
        "init": "" if ancestor is None else ancestor.title,
        "unlabelled": "" if unlabelled is None else unlabelled.fingerprint,
    }


def _unlabelled(
    settings: Settings, dataset: Dataset, teachers: list[Teacher | None], display: Display
) -> Unlabelled | None:
    """Return the speech without labels that the settings ask for, stored as the student and its teachers hear it.

    Raises:
        LineageLeak: it holds clips of the corpus, or others of its speakers.
    """
    name = settings["distill.unlabelled"]
    if not name:
        return None
    hears = [(feature_view(settings).needs, settings["features.dtype"])]
    hears += [each for teacher in teachers if teacher for each in teacher.hears]
    with display.counting(f"{name}: files decoded") as progress:
        found = prepare_unlabelled(name, hears, progress, mapper())
    for split in dataset.splits:
        found.refuse_overlap(split)
    return found


def _now() -> str:
    return time.strftime("%y%m%d-%H%M%S")


class _Beginning:
    """The weights that every fold starts from, and what comes with them; nothing where there is no ancestor."""

    def __init__(self, ancestor: Ancestor | None, dataset: Dataset, settings: Settings, allow_leak: bool) -> None:
        self.ancestor, self.state, self.stamp = ancestor, None, ""
        if ancestor is None:
            return
        self.state = ancestor.state(settings, dataset.labels)
        heard = sum(ancestor.leak(split, allow_leak) for split in dataset.splits)
        self.stamp = ancestor.stamp(heard) if heard else ""

    def passed_on(self, bundle: Bundle) -> Bundle:
        """Return the bundle of what has begun so: it descends from the ancestor, and has its stamp."""
        if self.ancestor is None:
            return bundle
        return replace(
            bundle,
            protocol=bundle.protocol + self.stamp,
            lineage=bundle.lineage.union(self.ancestor.bundle.lineage),
            provenance=bundle.provenance | {"init": self.ancestor.title},
        )


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
        plan: TrainingPlan,
        dataset: Dataset,
        settings: Settings,
        device: torch.device | None,
        team: Team | None,
        client: Client,
        display: Display,
        teachers: list[Teacher | None],
        begin: _Beginning,
        unlabelled: Unlabelled | None,
    ) -> None:
        self.unlabelled = unlabelled
        self.plan, self.role, self.name = plan, plan.role, plan.name
        self.dataset, self.settings, self.device, self.team = dataset, settings, device, team
        self.client, self.display, self.teachers, self.begin = client, display, teachers, begin
        self.protocol = stamped(stamp_of(dataset.splits), settings) + begin.stamp
        first = dataset.splits[0]
        tags = {
            "role": self.role,
            "corpus": dataset.name,
            "protocol": self.protocol,
            "manifest": first.manifest.fingerprint,
            "split": first.fingerprint,
            "code_version": code_version(),
            **({} if begin.ancestor is None else {"init": begin.ancestor.title}),
        }
        self.runs = StudyRuns(
            client, experiment_id(client, f"ser-{dataset.name}"), self.name, tags, trial_tags, runs_folder() / self.name
        )

    def run(self, began: float) -> Trained:
        log_datasets(self.client, self.runs.parent_id, self.dataset.splits[0], self.dataset.name)
        log_settings(self.client, self.runs.parent_id, as_json(self.settings))
        try:
            fits = [self._fit(number, split) for number, split in enumerate(self.dataset.splits)]
            self.runs.close()
            return self._finish(fits, began)
        except BaseException as ended:
            self.runs.close()
            state = "interrupted" if isinstance(ended, KeyboardInterrupt) else "failed"
            self.runs.finish({}, {"state": state}, "KILLED" if state == "interrupted" else "FAILED", wait=False)
            raise

    def _finish(self, fits: list[Fit], began: float) -> Trained:
        dev_uar = float(np.mean([fit.best_dev_uar for fit in fits]))
        model = None
        if len(fits) == 1:
            fit, split, settings = fits[0], self.dataset.split, self.settings
            origin = Origin(
                self.role,
                self.dataset,
                split,
                self.name,
                0,
                code_version(),
                self.teachers[0],
                unlabelled=self.unlabelled,
            )
            bundle = self.begin.passed_on(pack(origin, fit, settings, split, fit.best_epoch, {"dev_uar": dev_uar}))
            score, model, looks = score_and_register(origin, bundle, fit.results, self.client, self.runs.parent_id)
        else:
            score, looks = self._pool(fits)
        parameters = parameters_of(self.settings, len(self.dataset.labels), fits[0].state)
        figures = {"dev_uar": dev_uar, "parameters": float(parameters), **score.metrics}
        registered = {} if model is None else {"registered": model.title}
        self.runs.finish(figures, {"state": "finished", **registered})
        self.plan.end()  # the weights are in the registry, the epochs in the store
        seconds = time.monotonic() - began
        return Trained(
            self.name,
            self.role,
            self.dataset,
            self.settings,
            parameters,
            dev_uar,
            score,
            looks,
            model,
            seconds,
            self.protocol,
        )

    def _fit(self, number: int, split: Split) -> Fit:
        """Train a fold, from where it was cut off; one that has ended is not trained again."""
        folder = self.plan.fold(number)
        fit = folder.fit
        if fit is not None and self.runs.has_ended(number):
            return fit
        self.runs.start(number, self.settings)
        epochs = _Epochs(folder.results, self.runs.logged_epochs(number))
        try:
            fit = fit or self._trained(number, split, folder, epochs)
        except WorkFailed as failure:
            self.runs.end(number, "failed", {}, str(failure))
            raise
        self._log(number, epochs, folder.results)
        seconds = sum(result.seconds for result in fit.results)
        self.runs.end(number, "complete", {"epochs": len(fit.results), "train_seconds": seconds}, "")
        return fit

    def _trained(self, number: int, split: Split, folder: FitFolder, epochs: "_Epochs") -> Fit:
        job = FitJob(self.settings, self._task(number, split), split.test, start=self.begin.state)
        what = f"{self.role} fold {split.fold}" if split.fold else self.role
        if epochs.results:
            self.display.say(f"{what}: goes on after epoch {folder.epochs_kept} of {self.settings['train.epochs']}")
        began = time.monotonic()
        with self.display.following(lambda: self._line(what, epochs.results, began)) as show:
            show()

            def look() -> None:
                self._log(number, epochs, folder.results)
                show()

            if self.team is not None:
                return fit_together(equipped(job), folder, self.team, look)
            assert self.device is not None
            # Small models wait for a second thread longer than it computes.
            use_threads(slots() if is_heavy(self.settings) else 1)
            return kept_fit(job, folder, self.device, told=lambda result: look())

    def _log(self, number: int, epochs: "_Epochs", results: list[EpochResult]) -> None:
        """Log the epochs that the store does not have: one is logged once, however often it was trained."""
        epochs.results = results
        for result in results:
            if result.epoch not in epochs.logged:
                epochs.logged.add(result.epoch)
                self.runs.epoch(number, asdict(result))

    def _task(self, number: int, split: Split) -> Task:
        manifest, labels = split.manifest, self.dataset.labels
        copies = NO_COPIES
        if self.settings["augment.copies"]:
            wanted = [(self.settings["augment.recipe"], self.settings["augment.copies"])]
            copies = self._made(split, wanted, feature_view(self.settings).needs, self.settings["features.dtype"])
        digests = () if self.unlabelled is None else self.unlabelled.hashes
        teacher, said, hints = self.teachers[number], dict[str, TeacherOutputs](), None
        if teacher is not None:
            if copies is not NO_COPIES:
                self._made(split, wanted, teacher.described.view.needs, teacher.described.settings["features.dtype"])
            with cluster() as where:
                teaching = Teaching(teacher, split, where, self.display.counting)
                said = teaching.outputs(split, (self.settings["distill.outputs"],), copies, digests)
                hints = teaching.hints(split, copies, digests) if self.settings["distill.hint"] != OFF else None
        hashes = tuple(manifest.column("audio_sha256"))
        speakers = tuple(manifest.column("speaker"))
        targets, languages = manifest.targets(labels), tuple(manifest.column("language"))
        return Task(
            hashes,
            targets,
            labels,
            split.train,
            split.dev,
            speakers,
            said,
            copies,
            languages,
            hints=hints,
            unlabelled=digests,
        )

    def _made(self, split: Split, wanted: list[tuple[str, int]], names: tuple[str, ...], dtype: str) -> CopiedClips:
        with self.display.counting(f"{self.role}: copies of training clips made") as progress:
            return prepare_copies(split, wanted, names, progress, mapper=mapper(), dtype=dtype)

    def _line(self, what: str, results: list[EpochResult], began: float) -> str:
        epochs, elapsed = self.settings["train.epochs"], clock(time.monotonic() - began)
        if not results:
            on = "" if self.team is None else f"  {counted(self.team.size, 'worker')} on {self.team.device}  {elapsed}"
            return f"{what}: epoch 0/{epochs}{on}"
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
            title = f"{self.name}: pooled UAR {score.uar.value:.3f}, protocol {self.protocol}"
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
