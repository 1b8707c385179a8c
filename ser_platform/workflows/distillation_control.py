"""Comparison of a distilled student with its control, an undistilled student of the same search, and with the teacher.

All are trained on the same speaker-disjoint folds of the whole corpus and scored on each fold's test speakers: the
students with several seeds, the teacher once. Both students have the settings that their studies have chosen on dev
speakers of the studies' split.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits.folds import Groups, assign_folds
from ser_platform.corpora.splits.split import Split, find_speaker_rows
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.errors import SerError, UserError
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.paired_gain import ArmComparison, compare_arms, measure_agreement, seeded_interval
from ser_platform.evaluation.test_figures import draw_control_figure
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.dataset import Dataset
from ser_platform.files import digest_of, read_json, write_json
from ser_platform.inference.bundle_latency import measure_bundle_latency_ms
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredVersion, download_bundle, load_bundle, load_description
from ser_platform.tracking.run_artifacts import log_study_results
from ser_platform.training.configuration import count_prediction_parameters
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData
from ser_platform.tuning.execution.fit_pool import ShowProgress, fit_all
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.teacher_labels.fold_teachers import PLAIN_OVERRIDES, TeacherLabeller, train_fold_teachers
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.workflows.trial_data import SpeakerGroups, TrialDataBuilder

N_FOLDS, N_SEEDS = 5, 3
FIRST_CONTROL_SEED = 2000  # differs from the seeds of trials and confirmations
MIN_FOLDS = 3
MIN_GROUPS = 3  # of speakers, dev included, so that a fold teacher is trained on one
TEACHER, UNDISTILLED, DISTILLED = ROW_NAMES = ("teacher", "undistilled", "distilled")
CONTROL_FOLDER, REPORT_FILE, FIGURE_FILE = "control", "control.json", "control.png"
Predictions = NDArray[np.int64]


@dataclass(frozen=True)
class ComparisonRow:
    """One model in the table of a comparison.

    Attributes:
        uar: pooled over the folds, mean over seeds; in [0, 1].
        agreement: share of clips with the teacher's prediction, in [0, 1].
        size_bytes: size of the weights, those of an encoder included; None where they are not available.
        latency_ms: from the samples of a 3 s clip to probabilities, on one CPU core; None without weights.
    """

    name: str
    model: str
    title: str
    uar: Interval
    agreement: float
    parameters: int
    size_bytes: int | None
    latency_ms: float | None


@dataclass(frozen=True)
class ControlResult:
    """The three rows, and the gain of distillation."""

    study_name: str
    protocol: str
    rows: tuple[ComparisonRow, ...]
    paired_gain: ArmComparison
    n_test_evaluations: int
    is_distilled: bool = True  # False where the search chose alpha 0

    @property
    def is_proven(self) -> bool:
        """Whether the interval of the gain of distillation excludes 0."""
        return self.is_distilled and self.paired_gain.is_proven

    @property
    def verdict(self) -> str:
        """The conclusion about distillation, as text."""
        if self.is_distilled:
            return self.paired_gain.verdict
        return "no conclusion: the search chose alpha 0, so both students are trained on labels alone"

    def as_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        gain = self.paired_gain
        return {
            "study": self.study_name,
            "protocol": self.protocol,
            "rows": [asdict(row) for row in self.rows],
            "gain": asdict(gain.gain) | {"seeds": gain.n_seeds, "proven": self.is_proven, "verdict": self.verdict},
            "test_looks": self.n_test_evaluations,
        }


@dataclass(frozen=True)
class Arm:
    """One arm: a registered student, and the builder of training data for its space."""

    model: RegisteredVersion
    data_builder: TrialDataBuilder


def make_assessment_folds(split: Split) -> list[Split]:
    """Return folds of all speakers of a corpus: each speaker is in test once and in dev once.

    Raises:
        UserError: there are too few speakers.
        CorpusError: with every assignment an emotion is missing from the training clips of a fold.
    """
    manifest = split.manifest
    n_folds = min(N_FOLDS, len(manifest.speakers) // 2)
    if n_folds < MIN_FOLDS:
        raise UserError(
            f"a control needs {MIN_FOLDS} folds of at least 2 speakers; the corpus has {len(manifest.speakers)} "
            "speakers"
        )

    def make_splits(groups: Groups) -> list[Split]:
        rows = [find_speaker_rows(manifest, group) for group in groups]
        return [_make_fold(split, rows, number) for number in range(n_folds)]

    return assign_folds(manifest, n_folds, split.seed, make_splits)


def _make_fold(split: Split, groups: Sequence[NDArray[np.int64]], number: int) -> Split:
    n_folds = len(groups)
    test, dev = groups[number], groups[(number + 1) % n_folds]
    train = np.sort(np.concatenate([rows for rows in groups if rows is not test and rows is not dev]))
    return Split(split.manifest, train, dev, test, split.seed, "speaker", f"{number + 1}/{n_folds}")


def _group_speakers(fold: Split, folds: Sequence[Split]) -> SpeakerGroups:
    """Return the test speakers of each other fold: with them as groups, folds share fold teachers. None if too few."""
    groups = [other.speakers("test") for other in folds if other is not fold]
    return groups if len(groups) >= MIN_GROUPS else None


def log_control(client: Client, run_id: str, control: ControlResult, folder: Path) -> None:
    """Log the report to a study's parent run: metrics, table, JSON and PNG."""
    gain = control.paired_gain.gain
    figures = {"control_gain": gain.value, "control_gain_low": gain.low, "control_gain_high": gain.high}
    figures |= {f"control_uar_{row.name}": row.uar.value for row in control.rows}
    tags = {"control": control.verdict}
    files = (folder / REPORT_FILE, folder / FIGURE_FILE)
    log_study_results(client, run_id, CONTROL_FOLDER, figures, tags, _to_columns(control.rows), files)


def _to_columns(rows: Sequence[ComparisonRow]) -> dict[str, list[Any]]:
    return {
        "row": [row.name for row in rows],
        "model": [row.model for row in rows],
        "version": [row.title for row in rows],
        "UAR": [round(row.uar.value, 4) for row in rows],
        "low": [round(row.uar.low, 4) for row in rows],
        "high": [round(row.uar.high, 4) for row in rows],
        "agreement": [round(row.agreement, 4) for row in rows],
        "parameters": [row.parameters for row in rows],
        "bytes": [row.size_bytes for row in rows],
        "latency_ms": [row.latency_ms for row in rows],
    }


class Comparison:
    """Trains both arms and the teacher on each fold; predictions of finished folds are stored and used again."""

    def __init__(
        self,
        corpus: Dataset,
        study: StudyFolder,
        teacher: Teacher,
        arms: dict[str, Arm],
        client: Client,
        cluster: Cluster,
        show_progress: ShowProgress,
    ) -> None:
        self._corpus, self._study, self._teacher, self._arms = corpus, study, teacher, arms
        self._client, self._cluster, self._show_progress = client, cluster, show_progress
        self._settings = {name: load_description(client, arm.model).settings for name, arm in arms.items()}

    @property
    def folder(self) -> Path:
        """The folder of the report."""
        return self._study.path / CONTROL_FOLDER

    def run(self) -> ControlResult:
        """Train on the unfinished folds, evaluate each fold's test clips, write and return the report."""
        folds = make_assessment_folds(self._corpus.split)
        self._train_folds(folds)
        fold_predictions = [self._read_predictions(fold) for fold in folds]
        rows = np.concatenate([fold.test for fold in folds])
        manifest = folds[0].manifest
        targets, speakers = manifest.encode_targets(self._corpus.labels)[rows], manifest.column("speaker")[rows]
        predictions = {name: np.concatenate([fold[name] for fold in fold_predictions], axis=1) for name in ROW_NAMES}
        n_test_evaluations = max(
            record_test_evaluation(
                fold.test_fingerprint, f"{self._study.name}/{CONTROL_FOLDER}/{name}/{seed}", f"control, {name}"
            )
            for fold in folds
            for name in ROW_NAMES
            for seed in range(len(predictions[name]))
        )
        teacher = predictions[TEACHER][0]
        intervals = {name: seeded_interval(targets, predictions[name], speakers) for name in ROW_NAMES}
        control = ControlResult(
            self._study.name,
            f"speaker, {len(folds)} folds, {N_SEEDS} seeds an arm",
            tuple(
                self._make_row(name, intervals[name], measure_agreement(teacher, list(predictions[name])))
                for name in ROW_NAMES
            ),
            compare_arms(targets, predictions[UNDISTILLED], predictions[DISTILLED], speakers),
            n_test_evaluations,
            is_distilled=self._settings[DISTILLED].distill.alpha > 0,
        )
        write_json(self.folder / REPORT_FILE, control.as_json())
        draw_control_figure([(row.name, row.uar) for row in control.rows], control.verdict, self.folder / FIGURE_FILE)
        return control

    def _train_folds(self, folds: Sequence[Split]) -> None:
        """Train on the folds without stored predictions, all side by side, and store each fold's as it ends."""
        missing = [fold for fold in folds if not self._find_file(fold).exists()]
        if not missing:
            return
        groups = {fold.fold: _group_speakers(fold, folds) for fold in missing}
        distilled = self._arms[DISTILLED].data_builder
        fold_teachers = [
            fit
            for fold in missing
            for fit in distilled.list_missing_fold_teachers(fold, self._settings[DISTILLED], groups[fold.fold])
        ]
        train_fold_teachers(fold_teachers, self._cluster, self._show_progress)
        places: list[tuple[Split, str]] = []
        jobs: list[FitJob] = []
        for fold in missing:  # the longest first, so that no slot waits for one at the end
            places.append((fold, TEACHER))
            jobs.append(self._make_teacher_job(fold))
        for fold in missing:
            for name in (UNDISTILLED, DISTILLED):
                for seed in range(N_SEEDS):
                    places.append((fold, name))
                    jobs.append(self._make_student_job(fold, name, seed, groups[fold.fold]))
        results: dict[int, list[int]] = {}

        def store(number: int, result: FitResult) -> None:
            results[number] = result.label_logits.argmax(axis=1).tolist()
            fold = places[number][0]
            numbers = [n for n, place in enumerate(places) if place[0] is fold]
            if all(n in results for n in numbers):
                rows = {name: [results[n] for n in numbers if places[n][1] == name] for name in ROW_NAMES}
                write_json(self._find_file(fold), rows)

        with self._show_progress(f"teacher, undistilled and distilled student on {len(missing)} folds") as progress:
            fit_all(jobs, self._cluster, progress, store)

    def _find_file(self, fold: Split) -> Path:
        """Return the file of a fold's predictions."""
        recipes = {name: settings.dotted() for name, settings in self._settings.items()}
        return self.folder / f"fold-{digest_of([fold.fingerprint, recipes, self._teacher.digest], 16)}.json"

    def _read_predictions(self, fold: Split) -> dict[str, Predictions]:
        """Return predicted classes `(seeds, n_test)` of each row on a fold; the teacher has one seed."""
        return {name: np.array(rows, dtype=np.int64) for name, rows in read_json(self._find_file(fold)).items()}

    def _make_student_job(self, fold: Split, name: str, seed: int, groups: SpeakerGroups) -> FitJob:
        settings = self._settings[name].with_overrides({"seed": FIRST_CONTROL_SEED + seed})
        data = self._arms[name].data_builder.build_for_other_split(fold, settings, groups)
        return FitJob(settings, data, label_rows=fold.test)

    def _make_teacher_job(self, fold: Split) -> FitJob:
        """Return the job of a fold teacher: without augmentation and dev clips, for a fixed number of epochs."""
        settings = self._teacher.description.settings.with_overrides(PLAIN_OVERRIDES)
        data = TrialData.from_split(fold, self._corpus.labels, self._label_for_teacher(fold))
        return FitJob(settings, replace(data, dev=None), label_rows=fold.test, stop_after=self._teacher.n_epochs)

    def _label_for_teacher(self, fold: Split) -> dict[str, TeacherOutputs]:
        """Return the outputs of the teacher's own teacher, {} where it has none."""
        settings, own = self._teacher.description.settings, self._teacher.own_teacher
        if own is None or not settings.distill.alpha:
            return {}
        return TeacherLabeller(own, fold, self._cluster, self._show_progress).label_split(
            fold, [settings.distill.outputs]
        )

    def _make_row(self, name: str, uar: Interval, agreement_share: float) -> ComparisonRow:
        model = self._teacher.model if name == TEACHER else self._arms[name].model
        settings = self._teacher.description.settings if name == TEACHER else self._settings[name]
        try:
            folder, bundle = download_bundle(self._client, model), load_bundle(self._client, model)
        except SerError:  # the weights were removed; the outputs are stored
            parameters, latency, size = count_prediction_parameters(settings, len(self._corpus.labels)), None, None
        else:
            parameters = count_prediction_parameters(settings, len(bundle.labels), bundle.state)
            latency = measure_bundle_latency_ms(bundle)
            size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return ComparisonRow(name, settings.model.name, model.title, uar, agreement_share, parameters, size, latency)
