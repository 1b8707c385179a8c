"""One study, from its search space to a registered candidate."""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ser_platform.errors import CorpusError, WorkFailed
from ser_platform.evaluation.scoring import TestScore
from ser_platform.features.dataset import Dataset
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import family_key
from ser_platform.features.views.normaliser import protocol_note
from ser_platform.progress import Display
from ser_platform.settings import Settings, as_json
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredModel
from ser_platform.tracking.run_artifacts import log_datasets, log_settings
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.configuration import feature_view, parameters_of
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.cross_validation import fold_splits
from ser_platform.tuning.execution.fit_job import FitJob
from ser_platform.tuning.execution.fit_pool import Finalists, Progress, time_alone
from ser_platform.tuning.execution.tune_adapter import search
from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.samplers.factory import make_sampler
from ser_platform.tuning.schedulers.rung_store import SavedRungs
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.study.recorder import COMPLETE, FAILED, PRUNED, StudyBook, TrialRecord
from ser_platform.tuning.study.status_line import study_line, told_failures
from ser_platform.tuning.study.study_folder import FINISHED, Direction, StudyFolder
from ser_platform.tuning.study.warm_start import past_of, show_earlier
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.workflows.confirmation import Confirmed, confirm, dev_rotations
from ser_platform.workflows.register_candidate import Origin, pack, score_and_register
from ser_platform.workflows.trial_data import StudyTasks

TIMED_TRIALS, TIMED_EPOCHS = 3, 3
NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description


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
    is_new: bool  # not so where the winner of an extended study is the one it had before
    counts: dict[str, int]
    wall_seconds: float
    efficiency: float
    best_trials: list[TrialRecord]


class StudyRun:
    """Runs one study. Everything it needs is passed in; `run` does the work in order."""

    def __init__(
        self,
        space: Space,
        corpus: Dataset,
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
        split, self.past = corpus.split, past_of(folder)
        tags = {
            "role": space.role,
            "corpus": corpus.name,
            "protocol": split.protocol_stamp + self.past.stamp,
            "manifest": split.manifest.fingerprint,
            "split": split.fingerprint,
            "code_version": code_version,
            **({"warm_start": " ".join(self.past.studies)} if self.past.studies else {}),
        }
        self.runs = StudyRuns(client, experiment, folder.name, tags, trial_tags, folder.path)
        self.tasks = StudyTasks(space, corpus, teacher, where, self._counting)

    def run(self) -> Outcome:
        """Search, choose, test once, register.

        Raises:
            LineageLeak: a trial may ask the registered teacher itself, which has heard who is to judge; or unlabelled
                speech holds whom the corpus holds.
            CorpusError: the unlabelled speech is not what it was when the study began.
        """
        if self.teacher is not None:
            n_folds = self.space.fixed("data.folds")
            folds = fold_splits(self.corpus.split, n_folds) if n_folds else []
            self.tasks.refuse_heard([*folds, *dev_rotations(self.corpus.split)])
            self._refuse_other_speech()
        log_datasets(self.client, self.runs.parent_id, self.corpus.split, self.corpus.name)
        known = self.folder.summary.get("registered")
        self.folder.update(protocol=self.corpus.split.protocol_stamp)
        book, records, wall = self._search()
        efficiency = self._efficiency([record for record in book.records.values() if record.results], wall)
        plan = self.space.confirmation
        best = records[: plan.trials]
        finalists = Finalists(self.space.role, self.where, self.folder.path / "finalists", self.space.resources.workers)
        confirmed = confirm(
            best, self.corpus.split, self.space.confirmation.seeds, self.tasks.of, finalists, self._counting
        )
        self.folder.update(confirmed=[each.summary() for each in confirmed])
        winner = confirmed[0]
        origin = Origin(
            self.space.role,
            self.corpus,
            self.corpus.split,
            self.folder.name,
            winner.record.number,
            self.code_version,
            self.teacher,
            self.past,
            self.tasks.unlabelled,
        )
        dev = {"dev_uar_search": winner.record.score, "dev_uar_new_seeds": winner.mean}
        median = winner.median
        settings, split = winner.settings[median], winner.splits[median]
        with self._counting("final fit on workers of Ray Train") as progress:
            fit = finalists.final(FitJob(settings, self.tasks.of(split, settings)), winner.fits[median], progress)
        bundle = pack(origin, fit, settings, split, winner.epochs, dev)
        log_settings(self.client, self.runs.parent_id, as_json(settings))
        score, model, looks = score_and_register(origin, bundle, fit.results, self.client, self.runs.parent_id)
        parameters = parameters_of(bundle.settings, len(bundle.labels), bundle.state)
        figures = self._figures(book, wall, efficiency, winner, score) | {"parameters": float(parameters)}
        unbeaten = [record.number for record in book.pareto()]
        self.runs.mark(unbeaten)
        if len(self.space.objectives) > 1:
            goals = " and ".join(goal.metric for goal in self.space.objectives)
            told = f"no trial beats {', '.join(map(str, unbeaten))} in {goals}; the one of best dev UAR is registered"
            self.display.say(f"{self.space.name}: {told}; see: ser studies show {self.folder.name} --pareto")
        tags = {"state": FINISHED, "registered": model.title, NOTE: self._note(winner, score, model)}
        self.runs.finish(figures, tags)
        self.folder.update(state=FINISHED, metrics=figures, registered=model.title, run_id=self.runs.parent_id)
        self.folder.update(run_ids=self._run_ids())
        finalists.clear()
        self._report()
        return Outcome(
            self.folder.name,
            self.space.role,
            winner,
            parameters,
            score,
            looks,
            model,
            model.title != known,
            book.counts,
            wall,
            efficiency,
            records,
        )

    def _note(self, winner: Confirmed, score: TestScore, model: RegisteredModel) -> str:
        """Return what MLflow shows as the description of the study's run."""
        settings, uar = winner.settings[winner.median], score.uar
        taught = f", taught by {self.teacher.title}" if self.teacher and settings["distill.alpha"] else ""
        caveat = f" ({uar.caveat})" if uar.caveat else ""
        return (
            f"Trial {winner.record.number} was chosen: `{settings['model.name']}`{taught}; dev UAR with new seeds "
            f"{winner.mean:.3f}, test UAR {uar.value:.3f} [{uar.low:.3f}, {uar.high:.3f}]{caveat}; {model.title}. "
            "All its settings: `settings.yaml`; what the study found: `report/index.html`; its test clips: `test/`."
        )

    def _report(self) -> None:
        """Write what the study found, and keep it with the parent run; a failure is told, and loses nothing else."""
        try:
            _, page = write_report(self.folder)
            self.runs.keep(page.parent)
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, WorkFailed) as error:
            again = f"ser studies report {self.folder.name}"
            self.display.say(f"{self.space.name}: its report could not be kept ({error}); try: {again}")
        else:
            self.display.say(f"{self.space.name}: report in {page}")

    def abandon(self, state: str) -> None:
        """Close the runs of a study that does not go on; the journal keeps what was done."""
        self.runs.close()
        self.runs.finish({}, {"state": state}, "KILLED", wait=False)
        if self.runs.waiting is not None:
            self.display.say(f"{self.runs.waiting} holds what MLflow did not take; when it is back: ser tracking sync")
        self.folder.end_search()
        self.folder.update(state=state, run_ids=self._run_ids())

    def _run_ids(self) -> dict[str, str]:
        return {str(number): run_id for number, run_id in self.runs.run_ids.items()}

    def _refuse_other_speech(self) -> None:
        more = self.tasks.unlabelled
        found = "" if more is None else more.fingerprint
        if (known := self.folder.summary.get("unlabelled", found)) != found:
            name = "" if more is None else more.name
            raise CorpusError(f"{self.folder.name}: distill.unlabelled {name} has changed since it began ({known[:8]})")
        self.folder.update(unlabelled=found)

    def _search(self) -> tuple[StudyBook, list[TrialRecord], float]:
        sampler = make_sampler(self.space, done=len(self.folder.trials()))
        directions: list[Direction] = [
            "maximize" if goal.direction == "maximize" else "minimize" for goal in self.space.objectives
        ]
        before = self.folder.begin_search()
        budget = self.space.budget
        left = replace(self.space, budget=replace(budget, minutes=max(0.0, budget.minutes - before / 60)))
        study, saved = self.folder.open(sampler, directions), SavedRungs(self.folder.path)
        book = StudyBook(left, study, len(self.corpus.labels), self.runs, saved)
        if shown := show_earlier(study, self.space, self.folder):
            self.display.say(f"{self.space.name}: starts from {shown}")
        tasks = self.tasks.of_trials()
        with self.display.following(study_line(book, time.monotonic())) as show:
            search(book, tasks, self.where, self.folder, show)
        wall = self.folder.end_search()
        book.save_rungs()
        self.runs.close()
        self.folder.update(run_ids=self._run_ids())
        for line in told_failures(book):
            self.display.say(f"{self.space.name}: {line}")
        if book.exhausted:
            self.display.say(f"{self.space.name}: exhausted, every configuration left was tried before")
        records = book.ranked()
        if not records:
            raise WorkFailed(f"{self.folder.name} has no candidate: {_why_none(book)}")
        return book, records, wall

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
        folds = [
            time_alone([FitJob(record.settings, task, stop_after=TIMED_EPOCHS) for record in timed], self.where)
            for task in self.tasks.of_trials()
        ]
        alone = [sum(seconds) for seconds in zip(*folds, strict=True)]
        together = sum(sum(record.epoch_seconds) for record in timed)
        ratio = sum(len(r.epoch_seconds) * seconds for r, seconds in zip(timed, alone, strict=True)) / together
        return ratio * sum(sum(record.epoch_seconds) for record in records) / (wall * self.where.slots)

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
            **score.metrics,
        }
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def _why_none(book: StudyBook) -> str:
    """Return why no trial of a study may become the candidate."""
    if any(record.results and record.state != FAILED for record in book.records.values()):
        limits = ", ".join(sorted({limit.metric for limit in book.space.constraints}))
        return f"no trial kept within the constraints ({limits})"
    reasons = "; ".join(sorted({record.reason for record in book.records.values() if record.reason}))
    return f"no trial finished an epoch: {reasons or 'none was started'}"


def trial_tags(settings: Settings) -> dict[str, str]:
    """Return the tags of a trial that its settings decide: the keys of its feature families."""
    sets = feature_view(settings).sets
    tags = {"features": " ".join(family_key(name, FAMILIES[name]) for name in sets)}
    note = protocol_note(settings["features.normalise"])
    return tags | ({"normalisation": note} if note else {})
