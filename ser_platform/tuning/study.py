"""One study, from its search space to a registered candidate."""

import csv
import json
import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import optuna

from ser_platform.corpora.splits import Split
from ser_platform.errors import WorkFailed
from ser_platform.evaluation.calibration import fit_temperature
from ser_platform.evaluation.card import model_card
from ser_platform.evaluation.figures import confusion_figure, recall_figure
from ser_platform.evaluation.ledger import record_read
from ser_platform.evaluation.scoring import TestScore, logits_of, score_test
from ser_platform.features import FEATURE_SETS
from ser_platform.features.families import family_key
from ser_platform.inference.bundle import HASH_LENGTH, Bundle, Lineage
from ser_platform.settings import Settings
from ser_platform.tracking.promotion import PREDICTIONS
from ser_platform.tracking.registry import RegisteredModel, model_name, register
from ser_platform.tracking.runs import StudyRuns
from ser_platform.tracking.store import Client
from ser_platform.training.configuration import feature_view, parameters_of
from ser_platform.tuning.book import COMPLETE, FAILED, PRUNED, StudyBook, TrialRecord
from ser_platform.tuning.choosing import Confirmed, confirm
from ser_platform.tuning.cluster import Cluster
from ser_platform.tuning.display import Display, study_line
from ser_platform.tuning.fits import Progress, time_alone
from ser_platform.tuning.journal import FINISHED, StudyFolder
from ser_platform.tuning.search import search
from ser_platform.tuning.space import Space
from ser_platform.tuning.teaching import FoldTeachers
from ser_platform.tuning.trainable import FitJob, Task

TIMED_TRIALS, TIMED_EPOCHS = 3, 3


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: its name, its split, and what every task needs of it."""

    name: str
    split: Split

    @property
    def hashes(self) -> tuple[str, ...]:
        return tuple(self.split.manifest.column("audio_sha256"))

    @property
    def labels(self) -> tuple[str, ...]:
        return self.split.manifest.labels


@dataclass(frozen=True)
class Teacher:
    """The registered teacher that a student learns from: its recipe trains the fold teachers."""

    model: RegisteredModel
    bundle: Bundle

    @property
    def epochs(self) -> int:
        return int(self.bundle.provenance["epochs"])


@dataclass(frozen=True)
class Outcome:
    """What a study came to."""

    study: str
    role: str
    winner: Confirmed
    parameters: int
    score: TestScore
    looks: int
    model: RegisteredModel
    counts: dict[str, int]
    wall_seconds: float
    efficiency: float
    best_trials: list[TrialRecord]


class StudyRun:
    """Runs one study. Everything it needs is passed in; `run` does the work in order."""

    def __init__(
        self,
        space: Space,
        corpus: Corpus,
        folder: StudyFolder,
        client: Client,
        experiment: str,
        where: Cluster,
        display: Display,
        code_version: str,
        teacher: Teacher | None = None,
    ) -> None:
        self.space, self.corpus, self.folder, self.where, self.display = space, corpus, folder, where, display
        self.client, self.teacher, self.code_version = client, teacher, code_version
        split = corpus.split
        tags = {
            "role": space.role,
            "corpus": corpus.name,
            "protocol": split.protocol,
            "manifest": split.manifest.fingerprint,
            "split": split.fingerprint,
            "code_version": code_version,
        }
        self.runs = StudyRuns(client, experiment, folder.name, tags, _trial_tags)
        self._fold_teachers: FoldTeachers | None = None

    def run(self) -> Outcome:
        """Search, choose, test once, register."""
        book, records, wall = self._search()
        efficiency = self._efficiency([record for record in records if record.number in book.asked], wall)
        best = records[: self.space.confirm_trials]
        confirmed = confirm(best, self.corpus.split, self.space.confirm_seeds, self._task, self.where, self._counting)
        winner = confirmed[0]
        bundle = self._bundle(winner)
        score = self._score(bundle)
        model, looks = self._register(winner, bundle, score)
        figures = self._figures(book, wall, efficiency, winner, score)
        self.runs.finish(figures, {"state": FINISHED, "registered": model.title})
        self.folder.update(state=FINISHED, metrics=figures, registered=model.title, run_id=self.runs.parent_id)
        counts = book.counts
        return Outcome(
            self.folder.name,
            self.space.role,
            winner,
            winner.record.parameters,
            score,
            looks,
            model,
            counts,
            wall,
            efficiency,
            records,
        )

    def abandon(self, state: str) -> None:
        """Close the runs of a study that does not go on; the journal keeps what was done."""
        self.runs.close()
        self.runs.finish({}, {"state": state}, "KILLED")
        self.folder.update(state=state, run_ids=self._run_ids())

    def _run_ids(self) -> dict[str, str]:
        return {str(number): run_id for number, run_id in self.runs.run_ids.items()}

    def _search(self) -> tuple[StudyBook, list[TrialRecord], float]:
        # A resumed study must not draw again what it drew before.
        seed = (self.space.sampler_seed + len(self.folder.trials())) % 2**31
        sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, self.space.trials // 2))
            if self.space.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        book = StudyBook(self.space, self.folder.open(sampler), len(self.corpus.labels), self.runs)
        task = self._task(self.corpus.split, self._any_settings())
        began = time.monotonic()
        with self.display.following(study_line(book, began)) as show:
            records = search(book, task, self.where, self.folder, show)
        wall = time.monotonic() - began
        self.runs.close()
        self.folder.update(run_ids=self._run_ids())
        if book.exhausted:
            self.display.say(f"{self.space.name}: exhausted, every configuration left was tried before")
        if not records:
            reasons = "; ".join(sorted({record.reason for record in book.records.values() if record.reason}))
            raise WorkFailed(f"no trial of {self.folder.name} finished an epoch: {reasons or 'none was started'}")
        return book, records, wall

    def _any_settings(self) -> Settings:
        """Return settings that ask for teacher outputs when any trial of the space can."""
        axis = next((axis for axis in self.space.axes if axis.name == "distill.alpha"), None)
        settings = self.space.settings({})
        return settings if axis is None else settings | {"distill.alpha": max(axis.values)}

    def _task(self, split: Split, settings: Settings) -> Task:
        """Return the task of training on `split`, with teacher outputs where the settings ask for them."""
        labels = self.corpus.labels
        teacher = self._teachers().logits(split) if settings["distill.alpha"] > 0 else None
        return Task(self.corpus.hashes, split.manifest.targets(labels), labels, split.train, split.dev, teacher)

    def _teachers(self) -> FoldTeachers:
        if self._fold_teachers is None:
            assert self.teacher is not None, "a space that distils is not run without a teacher"

            self._fold_teachers = FoldTeachers(
                self.corpus.split,
                self.teacher.bundle.settings,
                self.teacher.epochs,
                self.teacher.model.tags["digest"],
                self.where,
                self._counting,
            )
        return self._fold_teachers

    def _counting(self, what: str) -> AbstractContextManager[Progress]:
        return self.display.counting(f"{self.space.name}: {what}")

    def _efficiency(self, records: list[TrialRecord], wall: float) -> float:
        """Return platform efficiency: epochs at the speed of one slot alone, over wall seconds times slots.

        The trials that took longest are timed alone; the others are taken to be slowed by the same ratio. NaN where a
        resumed study had no trial left to train.
        """
        if not records:
            return math.nan
        timed = sorted(records, key=lambda record: -sum(record.epoch_seconds))[:TIMED_TRIALS]
        task = self._task(self.corpus.split, self._any_settings())
        alone = time_alone([FitJob(record.settings, task, stop_after=TIMED_EPOCHS) for record in timed])
        together = sum(sum(record.epoch_seconds) for record in timed)
        ratio = sum(len(r.epoch_seconds) * seconds for r, seconds in zip(timed, alone, strict=True)) / together
        return ratio * sum(sum(record.epoch_seconds) for record in records) / (wall * self.where.slots)

    def _bundle(self, winner: Confirmed) -> Bundle:
        fit, split = winner.fits[winner.median], winner.splits[winner.median]
        settings = winner.settings[winner.median]
        manifest, labels = split.manifest, self.corpus.labels
        assert fit.dev_logits is not None
        temperature = fit_temperature(fit.dev_logits, manifest.targets(labels)[split.dev])
        lineage = lineage_of(split)
        if self.teacher is not None and settings["distill.alpha"] > 0:
            lineage = lineage.union(self.teacher.bundle.lineage)
        return Bundle(
            role=self.space.role,
            settings=settings,
            view=feature_view(settings),
            labels=labels,
            state=fit.state,
            normaliser=fit.normaliser,
            temperature=temperature,
            protocol=split.protocol,
            metrics={"dev_uar_search": winner.record.score, "dev_uar_new_seeds": winner.mean},
            lineage=lineage,
            provenance={
                "corpus": self.corpus.name,
                "manifest": manifest.fingerprint,
                "split": self.corpus.split.fingerprint,
                "test_fingerprint": split.test_fingerprint,
                "study": self.folder.name,
                "trial": str(winner.record.number),
                "epochs": str(max(1, winner.epochs)),
                "code_version": self.code_version,
            },
        )

    def _score(self, bundle: Bundle) -> TestScore:
        test = self.corpus.split.test
        return score_test(self.corpus.split, bundle.labels, logits_of(bundle, self.corpus.hashes, test).argmax(axis=1))

    def _register(self, winner: Confirmed, bundle: Bundle, score: TestScore) -> tuple[RegisteredModel, int]:
        bundle.metrics.update(score.metrics)
        teacher = None
        if self.teacher is not None and bundle.settings["distill.alpha"] > 0:
            teacher = f"{self.teacher.model.name}/{self.teacher.model.version}"
        fingerprint = self.corpus.split.test_fingerprint
        looks = record_read(
            fingerprint, f"{self.folder.name}/{winner.record.number}", f"{self.space.role} of {self.folder.name}"
        )
        card = model_card(
            role=self.space.role,
            settings=bundle.settings,
            parameters=parameters_of(bundle.settings, len(bundle.labels)),
            labels=bundle.labels,
            corpus=self.corpus.name,
            protocol=bundle.protocol,
            uar=score.uar,
            looks=looks,
            metrics=score.metrics,
            teacher=teacher,
        )
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "bundle"
            digest = bundle.write(folder, card)
            self._log_test(score, Path(scratch))
            tags = {
                key: bundle.provenance[key]
                for key in ("corpus", "study", "trial", "test_fingerprint", "manifest", "split")
            }
            tags |= {"protocol": bundle.protocol, "metrics": _json(bundle.metrics), "test_looks": str(looks)}
            if teacher is not None:
                tags["teacher"] = teacher
            name = model_name(self.space.role)
            return register(self.client, name, self.runs.parent_id, folder, digest, tags, card), looks

    def _log_test(self, score: TestScore, scratch: Path) -> None:
        """Log the test predictions and their figures to the study's run."""
        folder, labels = scratch / Path(PREDICTIONS).parent, self.corpus.labels
        title = f"{self.folder.name}: test UAR {score.uar.value:.3f}, protocol {self.corpus.split.protocol}"
        confusion_figure(score.matrix, labels, title, folder / "confusion_matrix.png")
        recall_figure(score.matrix, labels, title, folder / "recall.png")
        test = self.corpus.split.manifest.take(self.corpus.split.test)
        with (scratch / PREDICTIONS).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["audio_sha256", "id", "speaker", "emotion", "predicted"])
            for utterance, prediction in zip(test, score.predictions, strict=True):
                writer.writerow(
                    [utterance.audio_sha256, utterance.id, utterance.speaker, utterance.emotion, labels[prediction]]
                )
        self.client.log_artifacts(self.runs.parent_id, str(folder), Path(PREDICTIONS).parent.name)

    def _figures(
        self, book: StudyBook, wall: float, efficiency: float, winner: Confirmed, score: TestScore
    ) -> dict[str, float]:
        counts = book.counts
        figures = {
            "trials_completed": counts[COMPLETE],
            "trials_pruned": counts[PRUNED],
            "trials_failed": counts[FAILED],
            "wall_seconds": wall,
            "platform_efficiency": efficiency,
            "dev_uar": winner.record.score,
            "dev_uar_new_seeds": winner.mean,
            "parameters": winner.record.parameters,
            **score.metrics,
        }
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def lineage_of(split: Split) -> Lineage:
    """Return who a model was trained and selected on that was trained on `split`."""
    audio = split.manifest.column("audio_sha256")

    def digests(rows: np.ndarray) -> tuple[str, ...]:
        return tuple(sorted(digest[:HASH_LENGTH] for digest in audio[rows]))

    return Lineage(split.speakers("train"), digests(split.train), split.speakers("dev"), digests(split.dev))


def _trial_tags(settings: Settings) -> dict[str, str]:
    sets = feature_view(settings).sets
    return {"features": " ".join(family_key(name, FEATURE_SETS[name]) for name in sets)}


def _json(metrics: dict[str, float]) -> str:
    return json.dumps({name: round(value, 6) for name, value in metrics.items()})
