"""The folder of a study, `runs/NAME/`: Optuna's journal of trials and a summary. Both survive a killed process."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
        """Whether the study has a summary, which is the last file written for a new study."""
        return (self.path / "study.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """Name, state, origin and metrics of the study.

        Raises WorkFailed if the file is damaged.
        """
        summary: dict[str, Any] = read_json(self.path / "study.json")
        if not isinstance(summary, dict) or "state" not in summary:
            raise WorkFailed(f"{self.path / 'study.json'} is damaged (it is no summary of a study); remove it")
        return summary

    def update(self, **changes: Any) -> None:
        """Change fields of the summary atomically."""
        current = self.summary if self.has_begun else {}
        write_json(self.path / "study.json", current | changes)

    def begin_search(self) -> float:
        """Record the start of a search; return the seconds of the earlier ones, a killed one up to its last trial."""
        before = self._searches
        if before and before[-1][1] is None:
            times = [trial.datetime_complete or trial.datetime_start for trial in self.read_trials()]
            before[-1][1] = max([before[-1][0], *(time_of.timestamp() for time_of in times if time_of)])
        self.update(searches=[*before, [time.time(), None]])
        seconds: float = sum(ended - began for began, ended in before)
        return seconds

    def end_search(self) -> float:
        """Record the end of the search; return the seconds of all searches of the study."""
        searches = self._searches
        if searches and searches[-1][1] is None:
            searches[-1][1] = time.time()
            self.update(searches=searches)
        return self.searched_seconds

    @contextlib.contextmanager
    def time_phase(self, name: str) -> Iterator[None]:
        """Record the start and the end of the block as a phase of the study, for its time line."""
        began = time.time()
        try:
            yield
        finally:
            self.update(phases=[*self.summary.get("phases", ()), [name, began, time.time()]])

    @property
    def searched_seconds(self) -> float:
        """Seconds of the searches that have ended."""
        seconds: float = sum(ended - began for began, ended in self._searches if ended is not None)
        return seconds

    @property
    def _searches(self) -> list[list[Any]]:
        searches: list[list[Any]] = self.summary.get("searches", [])
        return searches

    def open_study(
        self, sampler: optuna.samplers.BaseSampler | None = None, directions: Sequence[Direction] = ("maximize",)
    ) -> optuna.Study:
        """Open the study in its storage, or create it in the journal or the database for new studies (`storage`).

        Raises:
            UserError: `SER_STUDY_STORAGE` is not the database of the study.
            WorkFailed: the database does not answer.
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
        """The URL of the study's database without its password; None if it is in the journal of its folder."""
        return self.summary.get("database") if self.has_begun else None

    def read_trials(self) -> list[FrozenTrial]:
        """Return the trials so far; another process may be writing to the study."""
        with open_storage_to_read(self.path, self.database) as storage:
            if storage is None or self.name not in [study.study_name for study in storage.get_all_studies()]:
                return []  # killed before the first trial
            return optuna.load_study(study_name=self.name, storage=storage).get_trials(deepcopy=False)


def begin_study(folder: StudyFolder, **summary: Any) -> StudyFolder:
    """Write the summary of a new study; return its folder."""
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
    found = StudyFolder(runs_folder() / name)
    names = sorted(path.parent.name for path in runs_folder().glob("*/study.json"))
    if name not in names:
        raise UnknownChoice("study", name, names)
    return found


def describe_trials(trials: Iterable[FrozenTrial], run_ids: dict[str, str]) -> list[dict[str, Any]]:
    """Return the trained trials as `{number, state, params, metrics, run_id}`."""
    return [
        {
            "number": trial.number,
            "state": read_outcome(trial).value,
            "params": trial.user_attrs.get("params", trial.params),
            "metrics": trial.user_attrs.get("metrics", {}),
            "run_id": run_ids.get(str(trial.number)),
        }
        for trial in trials
        if "parameters" in trial.user_attrs  # the others were not trained: duplicates, or out of bounds
    ]


def find_unfinished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that a killed process left running."""
    return [trial for trial in trials if trial.state == TrialState.RUNNING]
