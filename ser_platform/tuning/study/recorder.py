"""The book of a study: the one place in the driver where a trial's life is written down.

Everything that happens to a trial passes through here once, and goes on to the journal, the early-stopping rule, the
tracker and the display.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ser_platform.errors import UserError
from ser_platform.files import digest_of
from ser_platform.settings import Settings, as_json
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.samplers.factory import first_points, is_exhausted
from ser_platform.tuning.schedulers.rules import Histories, Rungs, make_stopping
from ser_platform.tuning.schedulers.rung_store import SavedRungs
from ser_platform.tuning.search_space.costs import configuration_costs
from ser_platform.tuning.search_space.space import DEV_UAR, Objective, Space
from ser_platform.tuning.search_space.trial_metrics import CONFIGURATION, END, EPOCH, MEASURES
from ser_platform.tuning.study.pareto import pareto_front
from ser_platform.tuning.study.study_folder import unfinished

COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"
STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
EXHAUSTED_AFTER = 100  # configurations in a row that were seen before
FIGURES = (*EpochResult.__dataclass_fields__, *(name for name in MEASURES if MEASURES[name].known == END))
OVER_LIMIT, SEEN, CONTRADICTS = "over the limit", "same as", "contradicts itself"


class Tracker(Protocol):
    """Where a trial's progress is shown to people; calls return at once."""

    def start(self, number: int, settings: Settings) -> None: ...

    def epoch(self, number: int, result: Mapping[str, float]) -> None: ...

    def end(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None: ...

    def has_all(self, number: int) -> bool:
        """Tell whether everything of a trial that has ended is shown: a kill may have been faster."""


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        usual: settings of the study's first trial, which all share: thousands of trials hold only what they differ in.
        own: settings in which the trial differs from these.
        costs: what is known from the configuration alone; `parameters` among them.
        scores: what early stopping and the sampler see, by epoch: the study's objective, or else the dev UAR.
        results: of each epoch, what the trial reported.
        passed: epochs that the trial, cut off by a kill, was allowed to go on after.
    """

    number: int
    params: Settings
    usual: Settings
    own: Settings
    costs: Mapping[str, float]
    state: str = RUNNING
    reason: str = ""
    scores: dict[int, float] = field(default_factory=dict)
    results: list[dict[str, float]] = field(default_factory=list)
    passed: frozenset[int] = frozenset()
    began: float = field(default_factory=time.time)

    @property
    def settings(self) -> Settings:
        """Every setting of the trial."""
        return self.usual | self.own

    @property
    def parameters(self) -> int:
        return int(self.costs["parameters"])

    @property
    def score(self) -> float:
        """The best dev UAR, NaN before the first epoch."""
        return self.results[-1]["best_dev_uar"] if self.results else math.nan

    @property
    def epoch_seconds(self) -> list[float]:
        return [result["seconds"] for result in self.results]

    @property
    def metrics(self) -> dict[str, float]:
        """Figures at the trial's end; those of dev clips are of the epoch with the best dev UAR."""
        figures = {**self.costs, "parameters": self.parameters, "epochs": len(self.results)}
        if not self.results:
            return figures
        last = self.results[-1]
        best = next((result for result in self.results if result["epoch"] == last["best_epoch"]), last)
        figures |= {name: best[name] for name in ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1")}
        measured = {name: last[name] for name in MEASURES if MEASURES[name].known == END and name in last}
        return figures | {
            "dev_uar": self.score,
            "best_dev_uar": self.score,
            "best_epoch": last["best_epoch"],
            "train_seconds": sum(self.epoch_seconds),
            **measured,
        }

    def value(self, metric: str) -> float:
        """Return a measure of the trial, NaN where it was not reported."""
        return float(self.metrics.get(metric, math.nan))


class StudyBook:
    """Asks Optuna for configurations and writes down what becomes of them."""

    def __init__(
        self, space: Space, study: optuna.Study, n_emotions: int, tracker: Tracker, saved: SavedRungs | None = None
    ) -> None:
        self.space, self.study, self.tracker = space, study, tracker
        self.records: dict[int, TrialRecord] = {}
        self.duplicates = 0
        self.over_limit = 0
        self.contradictions = 0
        self.exhausted = False
        self._n_emotions, self._saved = n_emotions, saved
        self._stopping = make_stopping(space)
        self._seen: dict[str, int] = {}
        self._measures = [goal.metric for goal in space.objectives] + [limit.metric for limit in space.constraints]
        self._watched = watched(space)
        for point in first_points(space):
            study.enqueue_trial(point, skip_if_exists=True)
        self._read_history()

    def _read_history(self) -> None:
        """Take over the trials of an interrupted study; those it was killed in are run again under their number."""
        trials = self.study.get_trials(deepcopy=False)
        running = {trial.number for trial in unfinished(trials)}
        for trial in trials:
            if "parameters" not in trial.user_attrs:
                self._count(str(trial.user_attrs.get("state", "")))
                continue  # told without training: over the limit, or seen before
            record = self._record(trial.number, self.space.read(trial.params), _costs(trial.user_attrs))
            if trial.number in running:
                # Its last epoch was written, but what came of it may not have been.
                record.passed = frozenset(sorted(trial.intermediate_values)[:-1])
            else:
                self._recall(record, trial)
        self._restart = [number for number in sorted(running) if number in self.records]
        # Asked for, but killed before its configuration was written down: drawn again under its number.
        self._undrawn = [number for number in sorted(running) if number not in self.records]
        if self._saved is not None:
            self._stopping.rungs.update(self._saved.read())
        self._stopping.replay(histories(self.space, trials))
        self.save_rungs()

    def _count(self, state: str) -> None:
        self.duplicates += state.startswith(SEEN)
        self.over_limit += state == OVER_LIMIT
        self.contradictions += state.startswith(CONTRADICTS)

    def _recall(self, record: TrialRecord, trial: FrozenTrial) -> None:
        """Take over a trial that has ended; show what a kill has kept from being shown."""
        record.state, record.reason = trial.user_attrs["state"], trial.user_attrs.get("reason", "")
        record.scores = dict(trial.intermediate_values)
        record.results = _rows(trial.user_attrs.get("results", {}))
        if not self.tracker.has_all(record.number):
            self.tracker.start(record.number, record.settings)
            for result in record.results:
                self.tracker.epoch(record.number, result)
            self.tracker.end(record.number, record.state, record.metrics, record.reason)

    def _record(self, number: int, params: Settings, costs: Mapping[str, float]) -> TrialRecord:
        settings = self.space.settings(params)
        usual = next(iter(self.records.values())).usual if self.records else settings
        own = {name: value for name, value in settings.items() if usual[name] != value}
        self.records[number] = record = TrialRecord(number, params, usual, own, costs)
        self._seen[_digest(settings)] = number
        return record

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        states = [record.state for record in self.records.values()]
        return {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED, RUNNING)}

    @property
    def left(self) -> int:
        """How many trials are still to be run, at most."""
        return max(0, self.space.budget.trials - len(self.records)) + len(self._restart)

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best dev UAR so far."""
        scored = [record for record in self.records.values() if record.results]
        return max(scored, key=lambda record: record.score, default=None)

    @property
    def epochs(self) -> int:
        """How many epochs were trained in all."""
        return sum(len(record.results) for record in self.records.values())

    def pareto(self) -> list[TrialRecord]:
        """Return the trials within the constraints that no other beats in every objective."""
        complete = [record for record in self.records.values() if record.state == COMPLETE and self.is_feasible(record)]
        if not complete:
            return []
        values = np.array([[record.value(goal.metric) for goal in self.space.objectives] for record in complete])
        front = pareto_front(values, [goal.direction == "maximize" for goal in self.space.objectives])
        return [record for record, is_in in zip(complete, front, strict=True) if is_in]

    def ranked(self) -> list[TrialRecord]:
        """Return the trials of which one may become the candidate, best first.

        Of several objectives these are the Pareto set by dev UAR; of one, all that ended well and within the
        constraints, those stopped early among them. Equals are ordered by their parameters.
        """
        goal = self.space.objectives[0]
        if len(self.space.objectives) > 1:
            return sorted(self.pareto(), key=lambda record: (-record.score, record.parameters))
        ended = [r for r in self.records.values() if r.state in (COMPLETE, PRUNED) and r.results]
        feasible = [r for r in ended if self.is_feasible(r) and not math.isnan(r.value(goal.metric))]
        return sorted(feasible, key=lambda record: (-_gain(goal, record.value(goal.metric)), record.parameters))

    def is_feasible(self, record: TrialRecord) -> bool:
        """Tell whether a trial is within the constraints; one whose figure was not measured is not."""
        return all(limit.excess(record.value(limit.metric)) <= 0 for limit in self.space.constraints)

    def ask(self, in_time: bool = True) -> TrialRecord | None:
        """Return the next trial to train, or None when the budget or the space is used up.

        Once time is up, only trials that a kill has cut off are still run: each ends in a state that is final.
        """
        if self._restart:
            record = self.records[self._restart.pop(0)]
            self.tracker.start(record.number, record.settings)
            return record
        for trial in self._offered() if in_time else self._undrawn_trials():
            record_of = self._accepted(trial)
            if record_of is not None:
                self.tracker.start(record_of.number, record_of.settings)
                return record_of
        return None

    def _offered(self) -> Iterator[optuna.Trial]:
        """Yield drawn configurations while the budget lasts, until too many in a row were of no use."""
        budget = self.space.budget
        for _ in range(EXHAUSTED_AFTER):
            if len(self.records) >= budget.trials or (budget.epochs is not None and self.epochs >= budget.epochs):
                return
            if not self._undrawn and is_exhausted(self.study):
                break
            yield next(self._undrawn_trials(), None) or self.study.ask()
        self.exhausted = True

    def _undrawn_trials(self) -> Iterator[optuna.Trial]:
        while self._undrawn:
            yield optuna.Trial(self.study, self._trial_id(self._undrawn.pop(0)))

    def _accepted(self, trial: optuna.Trial) -> TrialRecord | None:
        """Return the record of a configuration that is to be trained; None where it was answered without training."""
        params = self.space.draw(trial)
        settings = self.space.settings(params)
        try:
            costs = configuration_costs(settings, self._n_emotions, self._measures)
        except UserError as contradiction:  # like data.min_seconds above data.max_seconds: no clip could be seen
            trial.set_user_attr("state", f"{CONTRADICTS}: {contradiction}")
            self.study.tell(trial, state=TrialState.PRUNED)
            self.contradictions += 1
            return None
        excesses = self._excesses(costs)
        for metric, excess in excesses.items():
            self._set_constraint(trial.number, metric, excess)
        if any(excess > 0 for excess in excesses.values()):
            trial.set_user_attr("state", OVER_LIMIT)
            self.study.tell(trial, state=TrialState.PRUNED)
            self.over_limit += 1
            return None
        twin = self._seen.get(_digest(settings))
        if twin is not None:
            self._tell_again(trial, self.records[twin])
            return None
        trial.set_user_attr("params", as_json(params))
        trial.set_user_attr("costs", costs)
        trial.set_user_attr("parameters", int(costs["parameters"]))
        return self._record(trial.number, params, costs)

    def _excesses(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return by how much each constrained figure among `figures` is out of its bounds."""
        excesses: dict[str, float] = {}
        for limit in self.space.constraints:
            if limit.metric in figures:
                excess = limit.excess(figures[limit.metric])
                excesses[limit.metric] = max(excess, excesses.get(limit.metric, excess))
        return excesses

    def _set_constraint(self, number: int, metric: str, excess: float) -> None:
        """Write down a constraint as `Trial.set_constraint` does, also of a trial that a kill has cut off."""
        self.study._storage.set_trial_system_attr(self._trial_id(number), f"constraints:{metric}", excess)

    def _tell_again(self, trial: optuna.Trial, twin: TrialRecord) -> None:
        """Answer a configuration seen before with what it scored then; one still running is told as failed."""
        self.duplicates += 1
        trial.set_user_attr("state", f"{SEEN} {twin.number}")
        trial_id = self._trial_id(trial.number)
        for metric, excess in self._excesses(twin.metrics).items():
            self._set_constraint(trial.number, metric, excess)
        for epoch, score in twin.scores.items() if twin.state == PRUNED else ():
            self.study._storage.set_trial_intermediate_value(trial_id, epoch, score)
        if twin.state == COMPLETE:
            self.study.tell(trial, self._values(twin))
        else:
            self.study.tell(trial, state=TrialState.PRUNED if twin.state == PRUNED else TrialState.FAIL)

    def _values(self, record: TrialRecord) -> list[float]:
        return [record.value(goal.metric) for goal in self.space.objectives]

    def epoch(self, number: int, result: Mapping[str, float]) -> bool:
        """Write down an epoch's result; tell whether the trial is to be stopped."""
        record, epoch = self.records[number], int(result["epoch"])
        if epoch in record.scores:
            return False
        record.results.append({name: float(result[name]) for name in FIGURES if name in result})
        score = record.value(self._watched.metric)
        record.scores[epoch] = score
        self.study._storage.set_trial_intermediate_value(self._trial_id(number), epoch, score)
        self.tracker.epoch(number, result)
        stopped = self._stopping.stops(number, epoch, _gain(self._watched, score))
        if self._saved is not None and number in self._stopping.rungs.get(epoch, ()):
            self._saved.save(self._stopping.rungs)
        stopped = stopped and epoch not in record.passed
        if stopped:
            record.state = PRUNED
        return stopped

    def decides_at(self, number: int, epoch: int) -> bool:
        """Tell whether a trial can be stopped after an epoch."""
        return self._stopping.decides_at(number, epoch)

    def save_rungs(self) -> None:
        """Save what early stopping knows."""
        if self._saved is not None:
            self._saved.save(self._stopping.rungs, now=True)

    @property
    def rungs(self) -> Rungs:
        """What early stopping knows."""
        return self._stopping.rungs

    def end(self, number: int, failure: str = "") -> None:
        """Write down that a trial has ended: stopped before, failed for a reason, or complete.

        A trial that did not report what it is judged by has failed.
        """
        record = self.records[number]
        if record.state == FAILED:
            return
        failure = failure or ("" if record.state == PRUNED else self._unreported(record))
        if failure:
            record.state, record.reason = FAILED, failure
        elif record.state == RUNNING:
            record.state = COMPLETE
        storage, trial_id = self.study._storage, self._trial_id(number)
        for metric, excess in self._excesses(record.metrics).items():
            if MEASURES[metric].known != CONFIGURATION and not math.isnan(excess):
                self._set_constraint(number, metric, excess)
        attributes = {"state": record.state, "metrics": record.metrics, "results": _columns(record.results)}
        for name, value in (attributes | ({"reason": failure} if failure else {})).items():
            storage.set_trial_user_attr(trial_id, name, value)
        values = self._values(record) if record.state == COMPLETE else None
        storage.set_trial_state_values(trial_id, STATES[record.state], values)
        self.tracker.end(number, record.state, record.metrics, failure)

    def _unreported(self, record: TrialRecord) -> str:
        """Return why a trial that ran to its end cannot be judged, "" where it can."""
        if not record.results:
            return "ended before its first epoch"
        missing = [name for name in dict.fromkeys(self._measures) if not math.isfinite(record.value(name))]
        return f"no finite {', '.join(missing)} was reported" if missing else ""

    def again(self, number: int) -> None:
        """Have a trial whose process was lost run once more, under its number."""
        lost = self.records[number]
        record = self._record(number, lost.params, lost.costs)
        record.passed = lost.passed | frozenset(sorted(lost.scores)[:-1])
        self._restart.append(number)

    @property
    def has_lost(self) -> bool:
        """Whether trials wait for being run once more."""
        return bool(self._restart)

    def _trial_id(self, number: int) -> int:
        """Return the storage's id of a trial. `Study.tell` would warn of what a resumed trial had reported before."""
        storage = self.study._storage
        return storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)


def watched(space: Space) -> Objective:
    """Return the objective that early stopping and the sampler follow from epoch to epoch."""
    first = space.objectives[0]
    followed = len(space.objectives) == 1 and MEASURES[first.metric].known == EPOCH
    return first if followed else DEV_UAR


def histories(space: Space, trials: Sequence[FrozenTrial]) -> Histories:
    """Return what early stopping is told of a study's trials, as its journal holds them: higher is better."""
    goal = watched(space)
    for trial in trials:
        if "parameters" in trial.user_attrs:
            yield trial.number, {epoch: _gain(goal, score) for epoch, score in trial.intermediate_values.items()}


def _gain(goal: Objective, value: float) -> float:
    return value if goal.direction == "maximize" else -value


def _digest(settings: Settings) -> str:
    return digest_of(as_json(settings), 32)


def _costs(attributes: Mapping[str, Any]) -> Mapping[str, float]:
    costs: Mapping[str, float] = attributes.get("costs", {"parameters": attributes["parameters"]})
    return costs


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(columns: Mapping[str, Sequence[float | None]]) -> list[dict[str, float]]:
    rows = zip(*columns.values(), strict=True)
    return [{n: value for n, value in zip(columns, row, strict=True) if value is not None} for row in rows]
