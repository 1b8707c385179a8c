"""The book of a study: the one place in the driver where a trial's life is written down.

Everything that happens to a trial passes through here once, and goes on to the journal, the early-stopping rule, the
tracker and the display.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import optuna
from optuna.trial import TrialState

from ser_platform.errors import UserError
from ser_platform.settings import Settings, as_json
from ser_platform.training.configuration import parameters_of
from ser_platform.tuning.journal import unfinished
from ser_platform.tuning.space import Space
from ser_platform.tuning.stopping import make_stopping

COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"
STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
EXHAUSTED_AFTER = 100  # configurations in a row that were seen before


class Tracker(Protocol):
    """Where a trial's progress is shown to people; calls return at once."""

    def start(self, number: int, settings: Settings) -> None: ...

    def epoch(self, number: int, result: Mapping[str, float]) -> None: ...

    def end(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None: ...


@dataclass
class TrialRecord:
    """One trial. `scores` is the best dev UAR so far by epoch; `best` the result of the epoch that holds it."""

    number: int
    params: Settings
    settings: Settings
    parameters: int
    state: str = RUNNING
    reason: str = ""
    scores: dict[int, float] = field(default_factory=dict)
    epoch_seconds: list[float] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    @property
    def score(self) -> float:
        """The best dev UAR, NaN before the first epoch."""
        return max(self.scores.values(), default=math.nan)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures at the trial's end."""
        if not self.scores:
            return {"parameters": self.parameters, "epochs": 0}
        figures = {name: self.last[name] for name in ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1")}
        return figures | {
            "best_dev_uar": self.score,
            "best_epoch": self.last["best_epoch"],
            "epochs": len(self.scores),
            "train_seconds": sum(self.epoch_seconds),
            "parameters": self.parameters,
        }


class StudyBook:
    """Asks Optuna for configurations and writes down what becomes of them."""

    def __init__(self, space: Space, study: optuna.Study, n_emotions: int, tracker: Tracker) -> None:
        self.space, self.study, self.tracker = space, study, tracker
        self.records: dict[int, TrialRecord] = {}
        self.asked: set[int] = set()  # in this process; a resumed study has others too
        self.duplicates = 0
        self.over_limit = 0
        self.contradictions = 0
        self.exhausted = False
        self._n_emotions = n_emotions
        self._stopping = make_stopping(space)
        self._seen: dict[str, int] = {}
        if not study.get_trials(deepcopy=False):
            self._enqueue_architectures()
        self._read_history()

    def _enqueue_architectures(self) -> None:
        """Have each architecture tried once before the sampler may settle on one; its other settings are drawn."""
        for axis in self.space.axes:
            if axis.name == "model.name" and axis.domain == "choice":
                for name in axis.values:
                    self.study.enqueue_trial({axis.name: name})

    def _read_history(self) -> None:
        """Take over the trials of an interrupted study; those it was killed in are run again under their number."""
        trials = self.study.get_trials(deepcopy=False)
        self._restart = [trial.number for trial in unfinished(trials)]
        for trial in trials:
            if "parameters" not in trial.user_attrs:
                continue  # told without training: over the limit, or seen before
            params = self.space.read(trial.params)
            record = self._record(trial.number, params, trial.user_attrs["parameters"])
            if trial.number not in self._restart:
                record.state, record.scores = trial.user_attrs["state"], dict(trial.intermediate_values)
                record.last = trial.user_attrs["metrics"]
                record.epoch_seconds = trial.user_attrs.get("epoch_seconds", [])
        # A trial that was asked for but not yet started has no attributes: it is given up.
        for number in [n for n in self._restart if n not in self.records]:
            self.study.tell(number, state=TrialState.FAIL)
            self._restart.remove(number)
        self._stopping.replay((r.number, r.scores) for r in self.records.values() if r.number not in self._restart)

    def _record(self, number: int, params: Settings, parameters: int) -> TrialRecord:
        record = TrialRecord(number, params, self.space.settings(params), parameters)
        self.records[number] = record
        self._seen[json.dumps(as_json(record.settings), sort_keys=True)] = number
        return record

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        states = [record.state for record in self.records.values()]
        return {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED, RUNNING)}

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best dev UAR so far."""
        scored = [record for record in self.records.values() if record.scores]
        return max(scored, key=lambda record: record.score, default=None)

    def ask(self) -> TrialRecord | None:
        """Return the next trial to train, or None when the budget or the space is used up."""
        if self._restart:
            record = self.records[self._restart.pop(0)]
            self.asked.add(record.number)
            self.tracker.start(record.number, record.settings)
            return record
        for _ in range(EXHAUSTED_AFTER):
            if len(self.records) >= self.space.budget.trials:
                return None
            trial = self.study.ask()
            params = self.space.draw(trial)
            settings = self.space.settings(params)
            try:
                parameters = parameters_of(settings, self._n_emotions)
            except UserError as contradiction:  # like data.min_seconds above data.max_seconds: no clip could be seen
                trial.set_user_attr("state", f"contradicts itself: {contradiction}")
                self.study.tell(trial, state=TrialState.PRUNED)
                self.contradictions += 1
                continue
            excess = max((limit.excess(parameters) for limit in self.space.constraints), default=0)
            if excess > 0:
                trial.set_constraint("parameters", excess)
                trial.set_user_attr("state", "over the limit")
                self.study.tell(trial, state=TrialState.PRUNED)
                self.over_limit += 1
                continue
            twin = self._seen.get(json.dumps(as_json(settings), sort_keys=True))
            if twin is not None:
                self._tell_again(trial, twin)
                continue
            trial.set_user_attr("params", as_json(params))
            trial.set_user_attr("parameters", parameters)
            record = self._record(trial.number, params, parameters)
            self.asked.add(record.number)
            self.tracker.start(record.number, settings)
            return record
        self.exhausted = True
        return None

    def _tell_again(self, trial: optuna.Trial, twin: int) -> None:
        """Answer a configuration seen before with what it scored then; one still running is told as failed."""
        self.duplicates += 1
        record = self.records[twin]
        trial.set_user_attr("state", f"same as {twin}")
        if record.state == COMPLETE:
            self.study.tell(trial, record.score)
        elif record.state == PRUNED:
            for epoch, score in record.scores.items():
                trial.report(score, epoch)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def epoch(self, number: int, result: Mapping[str, float]) -> bool:
        """Write down an epoch's result; tell whether the trial is to be stopped."""
        record, epoch, score = self.records[number], int(result["epoch"]), float(result["best_dev_uar"])
        if epoch in record.scores:
            return False
        record.scores[epoch] = score
        record.epoch_seconds.append(result["seconds"])
        record.last = dict(result)
        storage, trial_id = self.study._storage, self._trial_id(number)
        storage.set_trial_intermediate_value(trial_id, epoch, score)
        self.tracker.epoch(number, result)
        stopped = self._stopping.stops(number, epoch, score)
        if stopped:
            record.state = PRUNED
        return stopped

    def end(self, number: int, failure: str = "") -> None:
        """Write down that a trial has ended: stopped before, failed for a reason, or complete."""
        record = self.records[number]
        if record.state == FAILED:
            return
        if failure:
            record.state, record.reason = FAILED, failure
        elif record.state == RUNNING:
            record.state = COMPLETE
        storage, trial_id = self.study._storage, self._trial_id(number)
        attributes = {"state": record.state, "metrics": record.metrics, "epoch_seconds": record.epoch_seconds}
        for name, value in (attributes | ({"reason": failure} if failure else {})).items():
            storage.set_trial_user_attr(trial_id, name, value)
        values = [record.score] if record.state == COMPLETE else None
        storage.set_trial_state_values(trial_id, STATES[record.state], values)
        self.tracker.end(number, record.state, record.metrics, failure)

    def _trial_id(self, number: int) -> int:
        """Return the storage's id of a trial. `Study.tell` would warn of what a resumed trial had reported before."""
        storage = self.study._storage
        return storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
