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

from ser_platform.corpora.splits.split import Split, combine_protocol_stamps
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.errors import UserError, WorkFailed
from ser_platform.evaluation.scoring import TestScore, score_clips
from ser_platform.evaluation.test_figures import draw_confusion_matrix
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, AugmentedClips, prepare_augmented_clips
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.inference.bundle import Bundle
from ser_platform.progress import Display, format_count, format_minutes
from ser_platform.settings import Overrides, Settings, check_overrides, resolve, runs_folder, slots
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.registry import RegisteredVersion
from ser_platform.tracking.run_artifacts import log_datasets, log_settings
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.adversary_loss import encode_languages
from ser_platform.training.closed_form.closed_form_settings import describe_fitted_model, is_fitted_at_once
from ser_platform.training.configuration import (
    count_prediction_parameters,
    feature_view,
    has_adversary,
    pin_settings,
    refuse_contradictions,
    stamp_protocol,
)
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.training.precision import make_precision
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.execution.distributed_fit import Team, fit_on_team, form_team_sharing, is_heavy, refuse_workers
from ser_platform.tuning.execution.fit_folder import FitFolder, run_fit
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData, use_threads
from ser_platform.tuning.execution.fit_pool import attach_shipment
from ser_platform.tuning.execution.remote_extraction import choose_mapper
from ser_platform.tuning.search_space.default_settings import choose_defaults
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.teacher_labels.fold_teachers import TeacherLabeller
from ser_platform.tuning.teacher_labels.teacher import Teacher, find_teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import UnlabelledPool, prepare_unlabelled
from ser_platform.workflows.initial_weights import InitialModel, find_initial_model
from ser_platform.workflows.register_candidate import Origin, find_code_version, pack_bundle, score_and_register
from ser_platform.workflows.run_study import make_trial_tags
from ser_platform.workflows.train_plan import TrainRequest


@dataclass(frozen=True)
class TrainResult:
    """What a training came to: the (pooled) test score, and the registered model where there was one fold."""

    name: str
    role: str
    dataset: Dataset
    settings: Settings
    n_parameters: int
    dev_uar: float
    test_score: TestScore
    n_test_evaluations: int
    model: RegisteredVersion | None
    seconds: float
    protocol: str  # the stamp of all its folds, and what settings and initial weights add to it


@dataclass
class _FoldEpochs:
    """The epochs of a fold, and which of them the store has."""

    results: list[EpochResult]
    logged_epochs: set[int]


def train(
    role: str, data: DataRequest, overrides: Overrides, device: str, display: Display, **options: Any
) -> TrainResult:
    """Train one configuration on every fold that is asked for: `run_training` of a new `TrainRequest`."""
    return run_training(TrainRequest(role, data, overrides, device, **options), display)


def run_training(plan: TrainRequest, display: Display) -> TrainResult:
    """Begin a training, or go on with one that was cut off.

    Without workers this process has the machine, so the device `auto` takes a GPU that it sees.

    Raises:
        UserError: the request cannot be met; before anything is trained.
    """
    began = time.monotonic()
    if plan.workers is not None:
        refuse_workers(plan.workers, plan.device)
    device = choose_device(plan.device) if plan.workers is None else None
    client = open_client() if plan.init else None
    initial_model = find_initial_model(client, plan.init) if client and plan.init else None
    settings = _resolve_settings(plan, initial_model)
    view = feature_view(settings)  # refuses an unknown architecture, and feature sets that do not go together
    refuse_contradictions(settings)
    if device is not None:
        make_precision(settings, device)
    request = plan.data.with_labels(settings.data.labels)
    dtype = settings.features.dtype
    dataset = prepare_dataset(request, display, names=view.required_families, mapper=choose_mapper(), dtype=dtype)
    _refuse_untrainable(settings, dataset)
    client = client or open_client()
    teachers = _find_teachers(client, dataset, settings)
    for needs, stored_as in (each for teacher in teachers if teacher for each in teacher.feature_needs):
        add_features(dataset, needs, stored_as, display)
    unlabelled = _prepare_pool(settings, dataset, teachers, display)
    start = _FoldStart(initial_model, dataset, settings, plan.allow_leak)
    if initial_model is not None:
        display.print_line(initial_model.describe_transfer(dataset.labels))
    plan.refuse_changed(_collect_fingerprints(dataset, teachers, initial_model, unlabelled))
    with contextlib.nullcontext() if plan.workers is None else connect_cluster():
        team = None if plan.workers is None else form_team_sharing(runs_folder(), plan.workers, plan.device, settings)
        if team is not None and team.device != "cuda":  # what a GPU can do its worker knows
            make_precision(settings, torch.device(team.device))
        # Random letters: two trainings that begin in one second are two, in the store and in the ledger.
        plan.name = plan.name or f"train-{plan.role}-{dataset.name}-{_now()}-{uuid.uuid4().hex[:4]}"
        with plan.hold_lock():
            plan.save()
            try:
                training = _TrainingRun(
                    plan, dataset, settings, device, team, client, display, teachers, start, unlabelled
                )
                return training.run(began)
            except UserError:
                if not any(plan.fold_folder(number).epoch_results for number in range(len(dataset.splits))):
                    plan.remove_folder()  # refused before its first epoch, as it would be again
                raise


def _resolve_settings(plan: TrainRequest, initial_model: InitialModel | None) -> Settings:
    """Return all settings: the user's, else the ancestor's own, else the role's and architecture's."""
    taken = {} if initial_model is None else initial_model.inherited_settings
    named = {**taken, **check_overrides(plan.overrides, REGISTRIES)}
    defaults = choose_defaults(plan.role, named, needs_gradients=plan.workers is not None)
    settings = pin_settings(resolve(defaults | named))
    if plan.workers is not None and is_fitted_at_once(settings):
        raise UserError(f"{describe_fitted_model(settings)} is fitted at once, by one process; leave --workers out")
    if initial_model is not None:
        initial_model.refuse_incompatible(settings)
    return settings


def _refuse_untrainable(settings: Settings, dataset: Dataset) -> None:
    """Refuse what the model cannot be, or cannot be trained on, before anything is logged or a worker started.

    Raises:
        UserError: names the setting.
    """
    count_prediction_parameters(settings, len(dataset.labels))
    if has_adversary(settings):
        for split in dataset.splits:
            encode_languages(tuple(split.manifest.column("language")), split.train)


def _collect_fingerprints(
    dataset: Dataset,
    teachers: list[Teacher | None],
    initial_model: InitialModel | None,
    unlabelled: UnlabelledPool | None,
) -> dict[str, Any]:
    """Return what must be the same when a training goes on."""
    return {
        "split": [split.fingerprint for split in dataset.splits],
        "teacher": [teacher.title if teacher else "" for teacher in teachers],
        "init": "" if initial_model is None else initial_model.title,
        "unlabelled": "" if unlabelled is None else unlabelled.fingerprint,
    }


def _prepare_pool(
    settings: Settings, dataset: Dataset, teachers: list[Teacher | None], display: Display
) -> UnlabelledPool | None:
    """Return the speech without labels that the settings ask for, stored as the student and its teachers hear it.

    Raises:
        LineageLeak: it holds clips of the corpus, or others of its speakers.
    """
    name = settings.distill.unlabelled
    if not name:
        return None
    feature_needs: list[tuple[tuple[str, ...], str]] = [
        (feature_view(settings).required_families, settings.features.dtype)
    ]
    feature_needs += [each for teacher in teachers if teacher for each in teacher.feature_needs]
    with display.show_progress(f"{name}: files decoded") as progress:
        found = prepare_unlabelled(name, feature_needs, progress, choose_mapper())
    for split in dataset.splits:
        found.refuse_overlap(split)
    return found


def _now() -> str:
    return time.strftime("%y%m%d-%H%M%S")


class _FoldStart:
    """The weights that every fold starts from, and what comes with them; nothing where there is no ancestor."""

    def __init__(
        self, initial_model: InitialModel | None, dataset: Dataset, settings: Settings, allow_leak: bool
    ) -> None:
        self.initial_model, self.state, self.stamp = initial_model, None, ""
        if initial_model is None:
            return
        self.state = initial_model.make_state(settings, dataset.labels)
        n_leaked = sum(initial_model.count_leaked_clips(split, allow_leak) for split in dataset.splits)
        self.stamp = initial_model.format_stamp(n_leaked) if n_leaked else ""

    def add_lineage(self, bundle: Bundle) -> Bundle:
        """Return the bundle of what has begun so: it descends from the ancestor, and has its stamp."""
        if self.initial_model is None:
            return bundle
        return replace(
            bundle,
            protocol=bundle.protocol + self.stamp,
            lineage=bundle.lineage.union(self.initial_model.bundle.lineage),
            provenance=bundle.provenance | {"init": self.initial_model.title},
        )


def choose_device(name: str) -> torch.device:
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


def _find_teachers(client: Client, dataset: Dataset, settings: Settings) -> list[Teacher | None]:
    if settings.distill.alpha == 0:
        return [None] * len(dataset.splits)
    return [find_teacher(client, dataset, split) for split in dataset.splits]


class _TrainingRun:
    """The folds of one training, written to MLflow as a study of its own."""

    def __init__(
        self,
        plan: TrainRequest,
        dataset: Dataset,
        settings: Settings,
        device: torch.device | None,
        team: Team | None,
        client: Client,
        display: Display,
        teachers: list[Teacher | None],
        start: _FoldStart,
        unlabelled: UnlabelledPool | None,
    ) -> None:
        self.unlabelled = unlabelled
        self.plan, self.role, self.name = plan, plan.role, plan.name
        self.dataset, self.settings, self.device, self.team = dataset, settings, device, team
        self.client, self.display, self.teachers, self.start = client, display, teachers, start
        self.protocol = stamp_protocol(combine_protocol_stamps(dataset.splits), settings) + start.stamp
        first = dataset.splits[0]
        tags = {
            "role": self.role,
            "corpus": dataset.name,
            "protocol": self.protocol,
            "manifest": first.manifest.fingerprint,
            "split": first.fingerprint,
            "code_version": find_code_version(),
            **({} if start.initial_model is None else {"init": start.initial_model.title}),
        }
        self.runs = StudyRuns(
            client,
            find_or_create_experiment(client, f"ser-{dataset.name}"),
            self.name,
            tags,
            make_trial_tags,
            runs_folder() / self.name,
        )

    def run(self, began: float) -> TrainResult:
        log_datasets(self.client, self.runs.parent_id, self.dataset.splits[0], self.dataset.name)
        log_settings(self.client, self.runs.parent_id, self.settings.dotted())
        try:
            fits = [self._fit_fold(number, split) for number, split in enumerate(self.dataset.splits)]
            self.runs.close()
            return self._finish(fits, began)
        except BaseException as ended:
            self.runs.close()
            state = "interrupted" if isinstance(ended, KeyboardInterrupt) else "failed"
            self.runs.finish_study({}, {"state": state}, "KILLED" if state == "interrupted" else "FAILED", wait=False)
            raise

    def _finish(self, fits: list[FitResult], began: float) -> TrainResult:
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
                find_code_version(),
                self.teachers[0],
                unlabelled=self.unlabelled,
            )
            bundle = self.start.add_lineage(
                pack_bundle(origin, fit, settings, split, fit.best_epoch, {"dev_uar": dev_uar})
            )
            score, model, n_test_evaluations = score_and_register(
                origin, bundle, fit.epoch_results, self.client, self.runs.parent_id
            )
        else:
            score, n_test_evaluations = self._score_pooled(fits)
        parameters = count_prediction_parameters(self.settings, len(self.dataset.labels), fits[0].state)
        figures = {"dev_uar": dev_uar, "parameters": float(parameters), **score.metrics}
        registered = {} if model is None else {"registered": model.title}
        self.runs.finish_study(figures, {"state": "finished", **registered})
        self.plan.remove_folder()  # the weights are in the registry, the epochs in the store
        seconds = time.monotonic() - began
        return TrainResult(
            name=self.name,
            role=self.role,
            dataset=self.dataset,
            settings=self.settings,
            n_parameters=parameters,
            dev_uar=dev_uar,
            test_score=score,
            n_test_evaluations=n_test_evaluations,
            model=model,
            seconds=seconds,
            protocol=self.protocol,
        )

    def _fit_fold(self, number: int, split: Split) -> FitResult:
        """Train a fold, from where it was cut off; one that has ended is not trained again."""
        folder = self.plan.fold_folder(number)
        fit = folder.fit_result
        if fit is not None and self.runs.is_run_complete(number):
            return fit
        self.runs.start_trial(number, self.settings)
        epochs = _FoldEpochs(folder.epoch_results, self.runs.find_logged_epochs(number))
        try:
            fit = fit or self._train_fold(number, split, folder, epochs)
        except WorkFailed as failure:
            self.runs.end_trial(number, "failed", {}, str(failure))
            raise
        self._log_epochs(number, epochs, folder.epoch_results)
        seconds = sum(result.seconds for result in fit.epoch_results)
        self.runs.end_trial(number, "complete", {"epochs": len(fit.epoch_results), "train_seconds": seconds}, "")
        return fit

    def _train_fold(self, number: int, split: Split, folder: FitFolder, epochs: "_FoldEpochs") -> FitResult:
        job = FitJob(self.settings, self._make_trial_data(number, split), split.test, initial_state=self.start.state)
        what = f"{self.role} fold {split.fold}" if split.fold else self.role
        if epochs.results:
            self.display.print_line(
                f"{what}: goes on after epoch {folder.checkpoint_epoch} of {self.settings.train.epochs}"
            )
        began = time.monotonic()
        with self.display.show_line(lambda: self._format_status(what, epochs.results, began)) as show:
            show()

            def log_and_show() -> None:
                self._log_epochs(number, epochs, folder.epoch_results)
                show()

            if self.team is not None:
                return fit_on_team(attach_shipment(job), folder, self.team, log_and_show)
            assert self.device is not None
            # Small models wait for a second thread longer than it computes.
            use_threads(slots() if is_heavy(self.settings) else 1)
            return run_fit(job, folder, self.device, on_epoch=lambda result: log_and_show())

    def _log_epochs(self, number: int, epochs: "_FoldEpochs", results: list[EpochResult]) -> None:
        """Log the epochs that the store does not have: one is logged once, however often it was trained."""
        epochs.results = results
        for result in results:
            if result.epoch not in epochs.logged_epochs:
                epochs.logged_epochs.add(result.epoch)
                self.runs.log_epoch(number, asdict(result))

    def _make_trial_data(self, number: int, split: Split) -> TrialData:
        copies = NO_AUGMENTED_CLIPS
        if self.settings.augment.copies:
            wanted = [(self.settings.augment.recipe, self.settings.augment.copies)]
            copies = self._make_copies(
                split, wanted, feature_view(self.settings).required_families, self.settings.features.dtype
            )
        digests = () if self.unlabelled is None else self.unlabelled.hashes
        teacher, outputs, hints = self.teachers[number], dict[str, TeacherOutputs](), None
        if teacher is not None:
            if copies is not NO_AUGMENTED_CLIPS:
                self._make_copies(
                    split,
                    wanted,
                    teacher.description.view.required_families,
                    teacher.description.settings.features.dtype,
                )
            with connect_cluster() as cluster:
                labeller = TeacherLabeller(teacher, split, cluster, self.display.show_progress)
                outputs = labeller.label_split(split, (self.settings.distill.outputs,), copies, digests)
                hints = (
                    labeller.compute_hints(split, copies, digests) if self.settings.distill.hint != NO_HINT else None
                )
        return TrialData.from_split(split, self.dataset.labels, outputs, copies, hints=hints, unlabelled_hashes=digests)

    def _make_copies(
        self, split: Split, wanted: list[tuple[str, int]], names: tuple[str, ...], dtype: str
    ) -> AugmentedClips:
        with self.display.show_progress(f"{self.role}: copies of training clips made") as progress:
            return prepare_augmented_clips(split, wanted, names, progress, mapper=choose_mapper(), dtype=dtype)

    def _format_status(self, what: str, results: list[EpochResult], began: float) -> str:
        epochs, elapsed = self.settings.train.epochs, format_minutes(time.monotonic() - began)
        if not results:
            on = (
                ""
                if self.team is None
                else f"  {format_count(self.team.size, 'worker')} on {self.team.device}  {elapsed}"
            )
            return f"{what}: epoch 0/{epochs}{on}"
        last = results[-1]
        return (
            f"{what}: epoch {last.epoch}/{epochs}  train loss {last.train_loss:.3f}  dev loss {last.dev_loss:.3f}  "
            f"dev UAR {last.dev_uar:.3f}, best {last.best_dev_uar:.3f} in epoch {last.best_epoch}  {elapsed}"
        )

    def _score_pooled(self, fits: list[FitResult]) -> tuple[TestScore, int]:
        """Score the test predictions of all folds together; log them. Returns the most looks at any fold's clips."""
        splits, labels = self.dataset.splits, self.dataset.labels
        rows = np.concatenate([split.test for split in splits])
        predictions = np.concatenate([fit.label_logits.argmax(axis=1) for fit in fits])
        clips = splits[0].manifest.take(rows)
        score = score_clips(clips, labels, predictions)
        n_test_evaluations = max(
            record_test_evaluation(split.test_fingerprint, f"{self.name}/{number}", f"{self.role} of {self.name}")
            for number, split in enumerate(splits)
        )
        folds = np.repeat([split.fold for split in splits], [len(split.test) for split in splits])
        with TemporaryDirectory() as scratch:
            title = f"{self.name}: pooled UAR {score.uar.value:.3f}, protocol {self.protocol}"
            draw_confusion_matrix(score.matrix, labels, title, Path(scratch) / "confusion_matrix.png")
            with (Path(scratch) / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "fold", "seed", "truth", "predicted"])
                for path, fold, truth, predicted in zip(
                    clips.column("path"), folds, clips.column("emotion"), predictions, strict=True
                ):
                    writer.writerow([path, fold, self.settings.seed, truth, labels[predicted]])
            self.client.log_artifacts(self.runs.parent_id, scratch, "test")
        return score, n_test_evaluations
