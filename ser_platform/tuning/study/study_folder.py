"""A study on disk: Optuna's journal of trials and a summary, under `runs/NAME/`. It survives a kill."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from ser_platform.errors import UnknownChoice, WorkFailed
from ser_platform.files import read_json, write_json
from ser_platform.settings import runs_folder
from ser_platform.tuning.study.storage import JOURNAL_FILE, find_database, open_storage, open_storage_to_read
from ser_platform.tuning.study.trial_outcome import read_outcome

Direction = Literal["maximize", "minimize"]
STUDY_RUNNING, STUDY_FINISHED, STUDY_INTERRUPTED, STUDY_FAILED = "running", "finished", "interrupted", "failed"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def has_begun(self) -> bool:
        """Whether there is a summary: it is the last to be written of a new study."""
        return (self.path / "study.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """What the study is and how it stands."""
        summary: dict[str, Any] = read_json(self.path / "study.json")
        if not isinstance(summary, dict) or "state" not in summary:
            raise WorkFailed(f"{self.path / 'study.json'} is damaged (not a study's summary); remove it")
        return summary

    def update(self, **changes: Any) -> None:
        """Change fields of the summary; a kill leaves the old or the new one."""
        current = self.summary if self.has_begun else {}
        write_json(self.path / "study.json", current | changes)

    def begin_search(self) -> float:
        """Note that a search begins; return the seconds that those before it took, a killed one up to its last sign."""
        before: list[list[Any]] = self.summary.get("searches", [])
        if before and before[-1][1] is None:
            began = before[-1][0]
            before[-1][1] = max(
                [began, *(t.timestamp() for trial in self.read_trials() if (t := _find_last_activity(trial)))]
            )
        self.update(searches=[*before, [time.time(), None]])
        seconds: float = sum(ended - began for began, ended in before)
        return seconds

    def end_search(self) -> float:
        """Note that the search has ended; return the seconds of all searches of the study."""
        searches: list[list[Any]] = self.summary.get("searches", [])
        if searches and searches[-1][1] is None:
            searches[-1][1] = time.time()
            self.update(searches=searches)
        return self.searched_seconds

    @property
    def searched_seconds(self) -> float:
        """Seconds of the searches that have ended."""
        searches: list[list[Any]] = self.summary.get("searches", [])
        seconds: float = sum(ended - began for began, ended in searches if ended is not None)
        return seconds

    def open_study(
        self, sampler: optuna.samplers.BaseSampler | None = None, directions: Sequence[Direction] = ("maximize",)
    ) -> optuna.Study:
        """Open the study where it was begun, creating it when missing: in the journal, or a database (`storage`).

        Raises:
            UserError, WorkFailed: the database is not the one named now, or does not answer.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self.database is None and not (self.path / JOURNAL_FILE).exists() and (named := find_database()):
            self.update(database=named)
        storage = open_storage(self.path, self.database)
        return optuna.create_study(
            storage=storage, study_name=self.name, directions=directions, sampler=sampler, load_if_exists=True
        )

    @property
    def database(self) -> str | None:
        """The database that the study is in, without a password; None where it is in the journal of its folder."""
        return self.summary.get("database") if self.has_begun else None

    def read_trials(self) -> list[FrozenTrial]:
        """Return the trials so far; another process may be writing."""
        with open_storage_to_read(self.path, self.database) as storage:
            if storage is None or self.name not in [study.study_name for study in storage.get_all_studies()]:
                return []  # killed before the first trial
            return optuna.load_study(study_name=self.name, storage=storage).get_trials(deepcopy=False)


def _find_last_activity(trial: FrozenTrial) -> datetime | None:
    return trial.datetime_complete or trial.datetime_start


def begin_study(folder: StudyFolder, **summary: Any) -> StudyFolder:
    """Write a new study's summary."""
    created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    folder.update(name=folder.name, state=STUDY_RUNNING, created=created, metrics={}, **summary)
    return folder


def list_studies() -> list[StudyFolder]:
    """Return the studies of the working directory, oldest first."""
    folders = [StudyFolder(path.parent) for path in runs_folder().glob("*/study.json")]
    return sorted(folders, key=lambda folder: (str(folder.summary.get("created", "")), folder.name))


def find_study(name: str) -> StudyFolder:
    """Return the study called `name`.

    Raises:
        UnknownChoice: there is none.
    """
    found = {path.parent.name: StudyFolder(path.parent) for path in sorted(runs_folder().glob("*/study.json"))}
    if name not in found:
        raise UnknownChoice("study", name, found)
    return found[name]


def describe_trials(trials: Iterable[FrozenTrial], run_ids: dict[str, str]) -> list[dict[str, Any]]:
    """Return the trials that were trained as `{number, state, params, measures, run_id}`."""
    return [
        {
            "number": trial.number,
            "state": read_outcome(trial).value,
            "params": trial.user_attrs.get("params", trial.params),
            "metrics": trial.user_attrs.get("metrics", {}),
            "run_id": run_ids.get(str(trial.number)),
        }
        for trial in trials
        if "parameters" in trial.user_attrs  # others were told without training: too large, or seen before
    ]


def find_unfinished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that a kill left running."""
    return [trial for trial in trials if trial.state == TrialState.RUNNING]
