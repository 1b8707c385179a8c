"""One study, from its search space to a registered candidate."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ser_platform.errors import CorpusError, WorkFailed
from ser_platform.evaluation.scoring import TestScore
from ser_platform.features.dataset import Dataset
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import family_cache_key
from ser_platform.features.views.normaliser import make_protocol_note
from ser_platform.progress import Display
from ser_platform.settings import Settings
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredVersion
from ser_platform.tracking.run_artifacts import log_datasets, log_settings, make_study_tags
from ser_platform.tracking.runs import StudyRuns
from ser_platform.training.configuration import count_prediction_parameters, feature_view
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.cross_validation import split_into_folds
from ser_platform.tuning.execution.fit_job import FitJob
from ser_platform.tuning.execution.fit_pool import FinalistTrainer, ProgressCallback
from ser_platform.tuning.execution.tune_adapter import search
from ser_platform.tuning.report.study_report import write_report
from ser_platform.tuning.samplers.factory import make_sampler
from ser_platform.tuning.schedulers.rung_store import RungStore
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.request import read_request
from ser_platform.tuning.study.status_line import format_failures, make_status_line
from ser_platform.tuning.study.study_folder import STUDY_FINISHED, Direction, StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome
from ser_platform.tuning.study.trial_record import TrialRecord
from ser_platform.tuning.study.warm_start import enqueue_earlier, read_warm_start
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.workflows.confirmation import ConfirmedTrial, confirm, rotate_dev
from ser_platform.workflows.register_candidate import Origin, find_code_version, pack_bundle, score_and_register
from ser_platform.workflows.trial_data import TrialDataBuilder

MLFLOW_NOTE_TAG = "mlflow.note.content"  # the tag that MLflow shows as a run's description


@dataclass(frozen=True)
class StudyResult:
    """Result of a study."""

    study_name: str
    role: str
    winner: ConfirmedTrial
    n_parameters: int
    test_score: TestScore
    n_test_evaluations: int
    model: RegisteredVersion
    is_new_version: bool  # False where an extended study has the same winner as before
    state_counts: dict[str, int]


class StudyRunner:
    """Runs one study: search, confirmation, test and registration."""

    def __init__(
        self,
        space: Space,
        corpus: Dataset,
        folder: StudyFolder,
        client: Client,
        experiment: str,
        cluster: Cluster,
        display: Display,
        teacher: Teacher | None = None,
        register_as: str = "",
    ) -> None:
        self.space, self.corpus, self.folder, self.cluster, self.display = space, corpus, folder, cluster, display
        self.client, self.teacher, self.register_as = client, teacher, register_as
        split, self.warm_start = corpus.split, read_warm_start(folder)
        protocol = split.protocol_stamp + self.warm_start.stamp
        tags = make_study_tags(space.role, corpus.name, protocol, split, find_code_version())
        if self.warm_start.studies:
            tags["warm_start"] = " ".join(self.warm_start.studies)
        axes = None if read_request(folder).is_control else [axis.name for axis in space.axes]
        self.runs = StudyRuns(client, experiment, folder.name, tags, make_trial_tags, folder.path, axes)
        self.data_builder = TrialDataBuilder(space, corpus, teacher, cluster, self._show_progress)

    def run(self) -> StudyResult:
        """Search, confirm the best trials, test the winner once, register it.

        Raises:
            LineageLeak: a trial uses outputs of the registered teacher, which was trained on dev or test clips; or the
                unlabelled speech contains speakers of the corpus.
            CorpusError: the unlabelled speech has changed since the study began.
        """
        if self.teacher is not None:
            n_folds = self.space.fixed_settings.data.folds
            folds = split_into_folds(self.corpus.split, n_folds) if n_folds else []
            self.data_builder.refuse_teacher_leak([*folds, *rotate_dev(self.corpus.split)])
            self._refuse_changed_unlabelled()
        log_datasets(self.client, self.runs.parent_id, self.corpus.split, self.corpus.name)
        known = self.folder.summary.get("registered")
        self.folder.update(protocol=self.corpus.split.protocol_stamp)
        recorder, records, wall = self._search()
        busy = sum(sum(record.epoch_seconds) for record in recorder.records.values())
        # NaN where a resumed study had no trial left to train.
        efficiency = busy / (wall * self.cluster.slots) if busy else math.nan
        finalists = FinalistTrainer(
            self.space.role, self.cluster, self.folder.path / "finalists", self.space.resources.workers
        )
        best = records[: self.space.confirmation.trials]
        if self.teacher is not None and any(record.settings.distill.alpha for record in best):
            self.data_builder.train_fold_teachers(rotate_dev(self.corpus.split)[: self.space.confirmation.seeds])
        confirmed = confirm(
            best,
            self.corpus.split,
            self.space.confirmation.seeds,
            self.data_builder.build,
            finalists,
            self._show_progress,
        )
        self.folder.update(confirmed=[each.summarise() for each in confirmed])
        winner = confirmed[0]
        origin = Origin(
            self.space.role,
            self.corpus,
            self.corpus.split,
            self.folder.name,
            winner.record.number,
            self.teacher,
            self.warm_start,
            self.data_builder.unlabelled,
            self.register_as,
        )
        dev = {"dev_uar_search": winner.record.best_dev_uar, "dev_uar_new_seeds": winner.mean_dev_uar}
        median = winner.median_run
        settings, split = winner.settings[median], winner.splits[median]
        with self._show_progress("final fit on workers of Ray Train") as progress:
            fit = finalists.train_final(
                FitJob(settings, self.data_builder.build(split, settings)), winner.fits[median], progress
            )
        bundle = pack_bundle(origin, fit, settings, split, winner.median_best_epoch, dev)
        log_settings(self.client, self.runs.parent_id, settings.dotted())
        with self.folder.time_phase("test and registration"):
            score, model, n_test_evaluations = score_and_register(
                origin, bundle, fit.epoch_results, self.client, self.runs.parent_id
            )
        parameters = count_prediction_parameters(bundle.settings, len(bundle.labels), bundle.state)
        figures = self._collect_metrics(recorder, wall, efficiency, winner, score) | {"parameters": float(parameters)}
        unbeaten = [record.number for record in recorder.find_pareto_front()]
        self.runs.tag_pareto_trials(unbeaten)
        if len(self.space.objectives) > 1:
            goals = " and ".join(goal.metric for goal in self.space.objectives)
            message = (
                f"the Pareto set of {goals} is trial {', '.join(map(str, unbeaten))}; the best in dev UAR is registered"
            )
            self._print_line(f"{message}; see: ser studies show {self.folder.name} --pareto")
        tags = {
            "state": STUDY_FINISHED,
            "registered": model.title,
            MLFLOW_NOTE_TAG: self._format_note(winner, score, model),
        }
        self.runs.finish_study(figures, tags)
        self.folder.update(
            state=STUDY_FINISHED,
            metrics=figures,
            registered=model.title,
            registered_model={"name": model.name, "version": model.version},
            run_id=self.runs.parent_id,
        )
        self.folder.update(run_ids=self._run_ids())
        finalists.remove_folder()
        interval = f"test UAR {100 * score.uar.value:.1f} [{100 * score.uar.low:.1f}, {100 * score.uar.high:.1f}]"
        self.display.print_line(f"{self.space.name}: {model.title}, {winner.settings[median].model.name}, {interval}")
        return StudyResult(
            study_name=self.folder.name,
            role=self.space.role,
            winner=winner,
            n_parameters=parameters,
            test_score=score,
            n_test_evaluations=n_test_evaluations,
            model=model,
            is_new_version=model.title != known,
            state_counts=recorder.state_counts,
        )

    def _format_note(self, winner: ConfirmedTrial, score: TestScore, model: RegisteredVersion) -> str:
        """Return the description of the study's run in MLflow."""
        settings, uar = winner.settings[winner.median_run], score.uar
        distilled = f", distilled from {self.teacher.title}" if self.teacher and settings.distill.alpha else ""
        caveat = f" ({uar.caveat})" if uar.caveat else ""
        return (
            f"Trial {winner.record.number} was chosen: `{settings.model.name}`{distilled}; dev UAR with new seeds "
            f"{winner.mean_dev_uar:.3f}, test UAR {uar.value:.3f} [{uar.low:.3f}, {uar.high:.3f}]{caveat}; "
            f"{model.title}. "
            "All settings: `settings.yaml`; results of the study: `report/index.html`; test predictions: `test/`."
        )

    def write_report(self) -> None:
        """Write the report of the study and log it to the parent run; a failure is printed and has no other effect."""
        try:
            _, page = write_report(self.folder)
            self.runs.log_report(page.parent)
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, WorkFailed) as error:
            command = f"ser studies report {self.folder.name}"
            self._print_line(f"its report could not be written ({error}); try: {command}")
        else:
            self._print_line(f"report in {page}")

    def abandon(self, state: str) -> None:
        """Close the runs of a failed or interrupted study; its journal contains the finished trials."""
        self.runs.close()
        self.runs.finish_study({}, {"state": state}, "KILLED", wait=False)
        if self.runs.unsent_file is not None:
            self.display.print_line(
                f"{self.runs.unsent_file} contains events for MLflow; when it can be reached again: ser tracking sync"
            )
        self.folder.end_search()
        self.folder.update(state=state, run_ids=self._run_ids())

    def _run_ids(self) -> dict[str, str]:
        return {str(number): run_id for number, run_id in self.runs.run_ids.items()}

    def _refuse_changed_unlabelled(self) -> None:
        more = self.data_builder.unlabelled
        found = "" if more is None else more.fingerprint
        if (known := self.folder.summary.get("unlabelled", found)) != found:
            name = "" if more is None else more.name
            raise CorpusError(
                f"{self.folder.name}: distill.unlabelled {name} has changed since the study began ({known[:8]})"
            )
        self.folder.update(unlabelled=found)

    def _search(self) -> tuple[StudyRecorder, list[TrialRecord], float]:
        sampler = make_sampler(self.space, n_existing=len(self.folder.read_trials()))
        directions: list[Direction] = [
            "maximize" if goal.direction == "maximize" else "minimize" for goal in self.space.objectives
        ]
        before = self.folder.begin_search()
        budget = self.space.budget
        left = replace(self.space, budget=replace(budget, minutes=max(0.0, budget.minutes - before / 60)))
        study, saved = self.folder.open_study(sampler, directions), RungStore(self.folder.path)
        recorder = StudyRecorder(left, study, len(self.corpus.labels), self.runs, saved)
        if shown := enqueue_earlier(study, self.space, self.folder):
            self._print_line(f"starts from {shown}")
        fold_data = self.data_builder.build_for_trials()
        with self.display.show_line(make_status_line(recorder, time.monotonic())) as show:
            search(recorder, fold_data, self.cluster, self.folder, show, self._print_line)
        wall = self.folder.end_search()
        recorder.save_rungs()
        self.runs.close()
        self.folder.update(run_ids=self._run_ids())
        for line in format_failures(recorder):
            self._print_line(line)
        if recorder.is_exhausted:
            self._print_line("exhausted, every remaining configuration was tried before")
        records = recorder.rank_candidates()
        if not records:
            raise WorkFailed(f"{self.folder.name} has no candidate: {_explain_no_candidate(recorder)}")
        return recorder, records, wall

    def _print_line(self, line: str) -> None:
        self.display.print_line(f"{self.space.name}: {line}")

    @contextlib.contextmanager
    def _show_progress(self, what: str) -> Iterator[ProgressCallback]:
        """Show the progress of a phase, and record it in the study's folder."""
        with self.folder.time_phase(what), self.display.show_progress(f"{self.space.name}: {what}") as progress:
            yield progress

    def _collect_metrics(
        self, recorder: StudyRecorder, wall: float, efficiency: float, winner: ConfirmedTrial, score: TestScore
    ) -> dict[str, float]:
        counts = recorder.state_counts
        figures = {
            "trials_completed": counts[Outcome.COMPLETE],
            "trials_pruned": counts[Outcome.PRUNED],
            "trials_failed": counts[Outcome.FAILED],
            "wall_seconds": wall,
            "platform_efficiency": efficiency,
            "dev_uar": winner.record.best_dev_uar,
            "dev_uar_new_seeds": winner.mean_dev_uar,
            **score.metrics,
        }
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def _explain_no_candidate(recorder: StudyRecorder) -> str:
    """Return why no trial of a study may become the candidate."""
    if any(record.epoch_results and record.state != Outcome.FAILED for record in recorder.records.values()):
        limits = ", ".join(sorted({limit.metric for limit in recorder.space.constraints}))
        return f"no trial satisfied the constraints ({limits})"
    reasons = "; ".join(
        sorted({record.failure_reason for record in recorder.records.values() if record.failure_reason})
    )
    return f"no trial finished an epoch: {reasons or 'no trial was started'}"


def make_trial_tags(settings: Settings) -> dict[str, str]:
    """Return the tags of a trial that follow from its settings: the keys of its feature families."""
    sets = feature_view(settings).sets
    tags = {"features": " ".join(family_cache_key(name, FAMILIES[name]) for name in sets)}
    note = make_protocol_note(settings.features.normalise)
    return tags | ({"normalisation": note} if note else {})
