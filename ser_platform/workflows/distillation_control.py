"""A distilled student beside its control, the undistilled student that was tuned as long, and their teacher.

All are trained on the same speaker-disjoint folds of the whole corpus and judged by each fold's test speakers: the
students with several seeds, the teacher's recipe once. Recipes are those that their studies chose, on dev speakers of
the studies' split: both arms alike.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits.folds import Groups, assign_folds
from ser_platform.corpora.splits.split import Split, rows_of
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.errors import SerError, UserError
from ser_platform.evaluation.control_figure import control_figure
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.paired_gain import Compared, agreement, compare, seeded_interval
from ser_platform.evaluation.test_ledger import record_read
from ser_platform.features.dataset import Dataset
from ser_platform.files import digest_of, read_json, write_json
from ser_platform.inference.bundle_latency import bundle_latency_ms
from ser_platform.settings import Settings, as_json
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredModel, bundle_folder, describe, load
from ser_platform.tracking.run_artifacts import log_findings
from ser_platform.training.configuration import parameters_of
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import FitJob, Task
from ser_platform.tuning.execution.fit_pool import Counting, fit_all
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.teacher_labels.fold_teachers import PLAIN, Teaching
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.workflows.trial_data import StudyTasks

FOLDS, SEEDS = 5, 3
FIRST_SEED = 2000  # no trial's, and no confirmation's
LEAST_FOLDS = 3
TEACHER, UNDISTILLED, DISTILLED = ROWS = ("teacher", "undistilled", "distilled")
FOLDER, REPORT, FIGURE = "control", "control.json", "control.png"
Predictions = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """What a table says of a model.

    Attributes:
        uar: pooled over the folds, the mean over seeds; a share.
        agreement: share of clips on which it says what the teacher says.
        size_bytes: of its weights, an encoder's among them; None where they are gone, as is `latency_ms`, of a clip
            from samples to probabilities on one CPU core.
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
class Control:
    """The three rows, and what distillation gained."""

    study: str
    protocol: str
    rows: tuple[Row, ...]
    compared: Compared
    looks: int
    is_distilled: bool = True  # not where the search chose alpha 0

    @property
    def is_proven(self) -> bool:
        """Whether distilling was a gain for sure."""
        return self.is_distilled and self.compared.is_proven

    @property
    def verdict(self) -> str:
        """What may be said of distilling, in words."""
        if self.is_distilled:
            return self.compared.verdict
        return "nothing can be said: the search chose alpha 0, both students learnt from labels alone"

    def as_json(self) -> dict[str, Any]:
        """Return the report as scripts read it."""
        gain = self.compared
        return {
            "study": self.study,
            "protocol": self.protocol,
            "rows": [asdict(row) for row in self.rows],
            "gain": asdict(gain.gain) | {"seeds": gain.n_seeds, "proven": self.is_proven, "verdict": self.verdict},
            "test_looks": self.looks,
        }


@dataclass(frozen=True)
class Student:
    """One arm: a registered student, and what makes the tasks of its space."""

    model: RegisteredModel
    tasks: StudyTasks


def assessment_folds(split: Split) -> list[Split]:
    """Deal all speakers of a corpus into folds: each is test once, and dev once.

    Raises:
        UserError: there are too few speakers.
        CorpusError: no deal leaves every emotion in each fold's training.
    """
    manifest = split.manifest
    n_folds = min(FOLDS, len(manifest.speakers) // 2)
    if n_folds < LEAST_FOLDS:
        raise UserError(
            f"a control compares on {LEAST_FOLDS} folds of 2 speakers or more; there are {len(manifest.speakers)} "
            "speakers"
        )

    def make_splits(groups: Groups) -> list[Split]:
        rows = [rows_of(manifest, group) for group in groups]
        return [_fold(split, rows, number) for number in range(n_folds)]

    return assign_folds(manifest, n_folds, split.seed, make_splits)


def _fold(split: Split, groups: Sequence[NDArray[np.int64]], number: int) -> Split:
    n_folds = len(groups)
    test, dev = groups[number], groups[(number + 1) % n_folds]
    train = np.sort(np.concatenate([rows for rows in groups if rows is not test and rows is not dev]))
    return Split(split.manifest, train, dev, test, split.seed, "speaker", f"{number + 1}/{n_folds}")


def log_control(client: Client, run_id: str, control: Control, folder: Path) -> None:
    """Log the report to a study's parent run: figures, table, JSON and PNG."""
    gain = control.compared.gain
    figures = {"control_gain": gain.value, "control_gain_low": gain.low, "control_gain_high": gain.high}
    figures |= {f"control_uar_{row.name}": row.uar.value for row in control.rows}
    tags = {"control": control.verdict}
    files = (folder / REPORT, folder / FIGURE)
    log_findings(client, run_id, FOLDER, figures, tags, _columns(control.rows), files)


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
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
    """Trains both arms and the teacher on each fold. A fold that is done is kept, and not trained again."""

    def __init__(
        self,
        corpus: Dataset,
        study: StudyFolder,
        teacher: Teacher,
        arms: dict[str, Student],
        client: Client,
        where: Cluster,
        counting: Counting,
    ) -> None:
        self._corpus, self._study, self._teacher, self._arms = corpus, study, teacher, arms
        self._client, self._where, self._counting = client, where, counting
        self._settings = {name: describe(client, arm.model).settings for name, arm in arms.items()}

    @property
    def folder(self) -> Path:
        """Where the report is written."""
        return self._study.path / FOLDER

    def run(self) -> Control:
        """Train what is missing, read each fold's test clips, write the report."""
        folds = assessment_folds(self._corpus.split)
        said = [self._fold(fold) for fold in folds]
        rows = np.concatenate([fold.test for fold in folds])
        manifest = folds[0].manifest
        targets, speakers = manifest.targets(self._corpus.labels)[rows], manifest.column("speaker")[rows]
        told = {name: np.concatenate([fold[name] for fold in said], axis=1) for name in ROWS}
        looks = max(
            record_read(fold.test_fingerprint, f"{self._study.name}/{FOLDER}/{name}/{seed}", f"control, {name}")
            for fold in folds
            for name in ROWS
            for seed in range(len(told[name]))
        )
        intervals = {name: seeded_interval(targets, told[name], speakers) for name in ROWS}
        control = Control(
            self._study.name,
            f"speaker, {len(folds)} folds, {SEEDS} seeds an arm",
            tuple(self._row(name, intervals[name], agreement(told[TEACHER][0], list(told[name]))) for name in ROWS),
            compare(targets, told[UNDISTILLED], told[DISTILLED], speakers),
            looks,
            is_distilled=self._settings[DISTILLED]["distill.alpha"] > 0,
        )
        write_json(self.folder / REPORT, control.as_json())
        control_figure([(row.name, row.uar) for row in control.rows], control.verdict, self.folder / FIGURE)
        return control

    def _fold(self, fold: Split) -> dict[str, Predictions]:
        """Return predicted classes `(n_seeds, n_test)` of each row on a fold; the teacher has one seed."""
        recipes = {name: as_json(settings) for name, settings in self._settings.items()}
        kept = self.folder / f"fold-{digest_of([fold.fingerprint, recipes, self._teacher.digest], 16)}.json"
        if not kept.exists():
            labels = [TEACHER, *(name for name in (UNDISTILLED, DISTILLED) for _ in range(SEEDS))]
            jobs = [self._teachers_job(fold)]
            jobs += [self._job(fold, name, seed) for name in (UNDISTILLED, DISTILLED) for seed in range(SEEDS)]
            with self._counting(f"teacher, undistilled and distilled student, fold {fold.fold}") as progress:
                fits = fit_all(jobs, self._where, progress)
            content: dict[str, list[list[int]]] = {name: [] for name in ROWS}
            for name, fit in zip(labels, fits, strict=True):
                content[name].append(fit.label_logits.argmax(axis=1).tolist())
            write_json(kept, content)
        return {name: np.array(rows, dtype=np.int64) for name, rows in read_json(kept).items()}

    def _job(self, fold: Split, name: str, seed: int) -> FitJob:
        settings = self._settings[name] | {"seed": FIRST_SEED + seed}
        return FitJob(settings, self._arms[name].tasks.of_another(fold, settings), label=fold.test)

    def _teachers_job(self, fold: Split) -> FitJob:
        """The teacher's recipe as fold teachers follow it: on the clips alone, for a fixed number of epochs."""
        manifest = fold.manifest
        settings = self._teacher.described.settings | PLAIN
        task = Task(
            tuple(manifest.column("audio_sha256")),
            manifest.targets(self._corpus.labels),
            self._corpus.labels,
            fold.train,
            None,
            tuple(manifest.column("speaker")),
            self._taught(fold),
            languages=tuple(manifest.column("language")),
        )
        return FitJob(settings, task, label=fold.test, stop_after=self._teacher.epochs)

    def _taught(self, fold: Split) -> dict[str, TeacherOutputs]:
        """Return what an assistant learns from its own teacher."""
        settings, own = self._teacher.described.settings, self._teacher.own
        if own is None or not settings["distill.alpha"]:
            return {}
        return Teaching(own, fold, self._where, self._counting).outputs(fold, [settings["distill.outputs"]])

    def _row(self, name: str, uar: Interval, agrees: float) -> Row:
        model = self._teacher.model if name == TEACHER else self._arms[name].model
        settings: Settings = self._teacher.described.settings if name == TEACHER else self._settings[name]
        try:
            folder, bundle = bundle_folder(self._client, model), load(self._client, model)
        except SerError:  # its weights are gone; its outputs are kept
            parameters, latency, size = parameters_of(settings, len(self._corpus.labels)), None, None
        else:
            parameters = parameters_of(settings, len(bundle.labels), bundle.state)
            latency = bundle_latency_ms(bundle)
            size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Row(name, str(settings["model.name"]), model.title, uar, agrees, parameters, size, latency)
