"""The folds of one training: train each, score the test clips, register the model of a single fold."""

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ser_platform.corpora.splits.split import Split, combine_protocol_stamps
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.errors import WorkFailed
from ser_platform.evaluation.predictions_file import write_predictions
from ser_platform.evaluation.scoring import TestScore, score_clips
from ser_platform.evaluation.test_figures import draw_confusion_matrix
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS
from ser_platform.features.dataset import Dataset
from ser_platform.inference.bundle import Bundle
from ser_platform.progress import Display, format_count, format_minutes
from ser_platform.settings import Settings, runs_folder, slots
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment
from ser_platform.tracking.registry import RegisteredVersion
from ser_platform.tracking.run_artifacts import log_datasets, log_settings, make_study_tags
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.configuration import count_prediction_parameters, feature_view, stamp_protocol
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.execution.distributed_fit import Team, fit_on_team, is_heavy
from ser_platform.tuning.execution.fit_folder import FitFolder, run_fit
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData, use_threads
from ser_platform.tuning.execution.fit_pool import ProgressCallback, attach_shipment
from ser_platform.tuning.teacher_labels.fold_teachers import TeacherLabeller
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import FeatureNeed, UnlabelledPool
from ser_platform.workflows.initial_weights import InitialModel
from ser_platform.workflows.register_candidate import Origin, find_code_version, pack_bundle, score_and_register
from ser_platform.workflows.run_study import make_trial_tags
from ser_platform.workflows.train_plan import TrainRequest
from ser_platform.workflows.trial_data import prepare_copies


@dataclass(frozen=True)
class TrainResult:
    """Result of a training: the test score, pooled over folds, and the registered model where there is one fold."""

    name: str
    dataset: Dataset
    settings: Settings
    n_parameters: int
    dev_uar: float
    test_score: TestScore
    n_test_evaluations: int
    model: RegisteredVersion | None
    seconds: float
    protocol: str  # of all folds, with stamps of the settings and of the initial weights


@dataclass
class _FoldEpochs:
    """The epochs of a fold, and the numbers of those that are logged."""

    results: list[EpochResult]
    logged_epochs: set[int]


class FoldStart:
    """The initial weights of every fold and their stamp; `state` is None without an initial model."""

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
        """Return the bundle with the stamp of the initial model and with its lineage."""
        if self.initial_model is None:
            return bundle
        return replace(
            bundle,
            protocol=bundle.protocol + self.stamp,
            lineage=bundle.lineage.union(self.initial_model.bundle.lineage),
            provenance=bundle.provenance | {"init": self.initial_model.title},
        )


class TrainingRun:
    """The folds of one training, logged to MLflow as one study."""

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
        start: FoldStart,
        unlabelled: UnlabelledPool | None,
    ) -> None:
        self.plan, self.role, self.name = plan, plan.role, plan.name
        self.dataset, self.settings, self.device, self.team = dataset, settings, device, team
        self.client, self.display, self.teachers, self.start = client, display, teachers, start
        self.unlabelled = unlabelled
        self.protocol = stamp_protocol(combine_protocol_stamps(dataset.splits), settings) + start.stamp
        first = dataset.splits[0]
        tags = make_study_tags(self.role, dataset.name, self.protocol, first, find_code_version())
        if start.initial_model is not None:
            tags["init"] = start.initial_model.title
        self.runs = StudyRuns(
            client,
            find_or_create_experiment(client, f"ser-{dataset.name}"),
            self.name,
            tags,
            make_trial_tags,
            runs_folder() / self.name,
        )

    def run(self, began: float) -> TrainResult:
        """Train all folds and return the result; `began` is the start on the monotonic clock, in seconds."""
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
            origin = Origin(self.role, self.dataset, split, self.name, 0, self.teachers[0], unlabelled=self.unlabelled)
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
        self.plan.remove_folder()  # the registry contains the weights, MLflow the epochs
        return TrainResult(
            name=self.name,
            dataset=self.dataset,
            settings=self.settings,
            n_parameters=parameters,
            dev_uar=dev_uar,
            test_score=score,
            n_test_evaluations=n_test_evaluations,
            model=model,
            seconds=time.monotonic() - began,
            protocol=self.protocol,
        )

    def _fit_fold(self, number: int, split: Split) -> FitResult:
        """Train a fold from its last checkpoint; a finished fold is not trained again."""
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

    def _train_fold(self, number: int, split: Split, folder: FitFolder, epochs: _FoldEpochs) -> FitResult:
        job = FitJob(self.settings, self._make_trial_data(number, split), split.test, initial_state=self.start.state)
        what = f"{self.role} fold {split.fold}" if split.fold else self.role
        if epochs.results:
            self.display.print_line(
                f"{what}: continues after epoch {folder.checkpoint_epoch} of {self.settings.train.epochs}"
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
            # A second thread makes small models slower.
            use_threads(slots() if is_heavy(self.settings) else 1)
            return run_fit(job, folder, self.device, on_epoch=lambda result: log_and_show())

    def _log_epochs(self, number: int, epochs: _FoldEpochs, results: list[EpochResult]) -> None:
        """Log each epoch once, even if it was trained again after a checkpoint."""
        epochs.results = results
        for result in results:
            if result.epoch not in epochs.logged_epochs:
                epochs.logged_epochs.add(result.epoch)
                self.runs.log_epoch(number, asdict(result))

    def _make_trial_data(self, number: int, split: Split) -> TrialData:
        settings, teacher = self.settings, self.teachers[number]
        digests = () if self.unlabelled is None else self.unlabelled.hashes
        copies, outputs, hints = NO_AUGMENTED_CLIPS, dict[str, TeacherOutputs](), None
        if settings.augment.copies:
            needs: list[FeatureNeed] = [(feature_view(settings).required_families, settings.features.dtype)]
            needs += [] if teacher is None else teacher.feature_needs[:1]
            recipes = [(settings.augment.recipe, settings.augment.copies)]
            copies = prepare_copies(split, recipes, needs, self._show_progress)
        if teacher is not None:
            with connect_cluster() as cluster:
                labeller = TeacherLabeller(teacher, split, cluster, self.display.show_progress)
                outputs = labeller.label_split(split, (settings.distill.outputs,), copies, digests)
                if settings.distill.hint != NO_HINT:
                    hints = labeller.compute_hints(split, copies, digests)
        return TrialData.from_split(split, self.dataset.labels, outputs, copies, hints=hints, unlabelled_hashes=digests)

    def _show_progress(self, what: str) -> AbstractContextManager[ProgressCallback]:
        return self.display.show_progress(f"{self.role}: {what}")

    def _format_status(self, what: str, results: list[EpochResult], began: float) -> str:
        epochs, elapsed, team = self.settings.train.epochs, format_minutes(time.monotonic() - began), self.team
        if not results:
            workers = "" if team is None else f"  {format_count(team.size, 'worker')} on {team.device}  {elapsed}"
            return f"{what}: epoch 0/{epochs}{workers}"
        last = results[-1]
        return (
            f"{what}: epoch {last.epoch}/{epochs}  train loss {last.train_loss:.3f}  dev loss {last.dev_loss:.3f}  "
            f"dev UAR {last.dev_uar:.3f}, best {last.best_dev_uar:.3f} in epoch {last.best_epoch}  {elapsed}"
        )

    def _score_pooled(self, fits: list[FitResult]) -> tuple[TestScore, int]:
        """Score and log the test predictions of all folds together; also return the most test evaluations of a fold."""
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
            columns: dict[str, Any] = {
                "path": clips.column("path"),
                "fold": folds,
                "seed": [self.settings.seed] * len(clips),
                "truth": clips.column("emotion"),
                "predicted": [labels[row] for row in predictions],
            }
            write_predictions(Path(scratch) / "predictions.csv", columns)
            self.client.log_artifacts(self.runs.parent_id, scratch, "test")
        return score, n_test_evaluations
