"""The recorder of a study: draws configurations with Optuna and writes every trial event once.

Each event goes to the journal, the early-stopping rule and the tracker.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from ser_platform.errors import UserError
from ser_platform.files import digest_of
from ser_platform.settings import SETTINGS, Overrides, Settings, as_json
from ser_platform.tuning.optuna_compat import end_trial, find_trial_id, set_constraint, set_intermediate_value
from ser_platform.tuning.samplers.factory import is_exhausted, list_first_points
from ser_platform.tuning.schedulers.rules import ScoreHistories, make_stopping_rule
from ser_platform.tuning.schedulers.rung_store import RungStore
from ser_platform.tuning.search_space.costs import compute_costs
from ser_platform.tuning.search_space.space import DEV_UAR, Objective, Space
from ser_platform.tuning.search_space.trial_metrics import BEFORE_TRAINING, EACH_EPOCH, TRIAL_METRICS
from ser_platform.tuning.study.pareto import find_pareto_set, is_feasible
from ser_platform.tuning.study.study_folder import find_unfinished
from ser_platform.tuning.study.trial_outcome import (
    MESSAGE_ATTRIBUTE,
    OUTCOME_ATTRIBUTE,
    OUTCOMES_BY_STATE,
    UNTRAINED_OUTCOMES,
    Outcome,
    read_outcome,
    write_untrained,
)
from ser_platform.tuning.study.trial_record import RECORDED_METRICS, TrialRecord, read_costs, to_columns, to_rows

OPTUNA_STATES = {outcome: state for state, outcome in OUTCOMES_BY_STATE.items()}
MAX_REJECTED_DRAWS = 100  # draws in a row that need no training, after which the space counts as exhausted


class Tracker(Protocol):
    """Receives the progress of trials, to show it; calls return at once."""

    def start_trial(self, number: int, settings: Settings) -> None: ...

    def log_epoch(self, number: int, result: Mapping[str, float]) -> None: ...

    def end_trial(self, number: int, state: str, metrics: Mapping[str, float], reason: str) -> None: ...

    def is_run_whole(self, number: int) -> bool:
        """Return whether all events of an ended trial were logged; a killed driver may have lost some."""


class StudyRecorder:
    """Draws configurations with Optuna and records their results. Continues the study if it has trials already."""

    def __init__(
        self, space: Space, study: optuna.Study, n_emotions: int, tracker: Tracker, rung_store: RungStore | None = None
    ) -> None:
        self.space, self.study, self.tracker = space, study, tracker
        self.records: dict[int, TrialRecord] = {}
        self.untrained_counts: Counter[Outcome] = Counter()
        self.is_exhausted = False
        self._n_emotions, self._rung_store = n_emotions, rung_store
        self._stopping_rule = make_stopping_rule(space)
        self._numbers_by_digest: dict[str, int] = {}
        self._required_metrics = [goal.metric for goal in space.objectives] + [
            limit.metric for limit in space.constraints
        ]
        self._pruning_objective = find_pruning_objective(space)
        for point in list_first_points(space):
            study.enqueue_trial(point, skip_if_exists=True)
        self._read_history()

    def _read_history(self) -> None:
        """Read the trials of an interrupted study; unfinished ones are queued to run again under their number."""
        trials = self.study.get_trials(deepcopy=False)
        running = {trial.number for trial in find_unfinished(trials)}
        for trial in trials:
            if "parameters" not in trial.user_attrs:
                outcome = read_outcome(trial)
                if outcome in UNTRAINED_OUTCOMES and trial.number not in running:
                    self.untrained_counts[outcome] += 1
                continue
            record = self._add_record(trial.number, self.space.decode(trial.params), read_costs(trial.user_attrs))
            if trial.number in running:
                # The decision after its last epoch may not have been applied: it is taken again.
                record.cleared_epochs = frozenset(sorted(trial.intermediate_values)[:-1])
            else:
                self._restore_ended(record, trial)
        self._numbers_to_restart = [number for number in sorted(running) if number in self.records]
        # Interrupted before their configuration was stored: drawn again under their number.
        self._numbers_to_redraw = [number for number in sorted(running) if number not in self.records]
        if self._rung_store is not None:
            self._stopping_rule.rungs.update(self._rung_store.read())
        self._stopping_rule.replay(collect_score_histories(self.space, trials))
        self.save_rungs()

    def _restore_ended(self, record: TrialRecord, trial: FrozenTrial) -> None:
        """Read an ended trial; log it to the tracker if the interrupted driver did not log all of it."""
        record.state, record.failure_reason = read_outcome(trial), trial.user_attrs.get("reason", "")
        record.scores_by_epoch = dict(trial.intermediate_values)
        record.epoch_results = to_rows(trial.user_attrs.get("results", {}))
        if not self.tracker.is_run_whole(record.number):
            self.tracker.start_trial(record.number, record.settings)
            for result in record.epoch_results:
                self.tracker.log_epoch(record.number, result)
            self.tracker.end_trial(record.number, record.state.value, record.metrics, record.failure_reason)

    def _add_record(self, number: int, params: Overrides, costs: Mapping[str, float]) -> TrialRecord:
        settings = self.space.resolve_settings(params)
        shared = next(iter(self.records.values())).shared_settings if self.records else settings
        own = {name: settings.value(name) for name in SETTINGS if settings.value(name) != shared.value(name)}
        self.records[number] = record = TrialRecord(number, params, shared, own, costs)
        self._numbers_by_digest[_compute_digest(settings)] = number
        return record

    @property
    def state_counts(self) -> dict[str, int]:
        """The number of trials in each state."""
        states = [record.state for record in self.records.values()]
        shown = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED, Outcome.RUNNING)
        return {state: states.count(state) for state in shown}

    @property
    def n_trials_left(self) -> int:
        """The largest number of trials that remain to be run."""
        return max(0, self.space.budget.trials - len(self.records)) + len(self._numbers_to_restart)

    @property
    def best_record(self) -> TrialRecord | None:
        """The trial with the best dev UAR so far."""
        scored = [record for record in self.records.values() if record.epoch_results]
        return max(scored, key=lambda record: record.best_dev_uar, default=None)

    @property
    def n_epochs_trained(self) -> int:
        """The number of epochs trained, over all trials."""
        return sum(len(record.epoch_results) for record in self.records.values())

    def find_pareto_front(self) -> list[TrialRecord]:
        """Return the complete trials within the constraints that no other beats in every objective."""
        complete = [
            record for record in self.records.values() if record.state == Outcome.COMPLETE and self.is_feasible(record)
        ]
        return find_pareto_set(complete, self.space.objectives, TrialRecord.get_metric)

    def rank_candidates(self) -> list[TrialRecord]:
        """Return the trials that can become the candidate, best first; equal ones by number of parameters.

        With several objectives these are the Pareto set, ordered by dev UAR; with one, all complete and pruned trials
        within the constraints, ordered by it.
        """
        goal = self.space.objectives[0]
        if len(self.space.objectives) > 1:
            return sorted(self.find_pareto_front(), key=lambda record: (-record.best_dev_uar, record.n_parameters))
        ended = [r for r in self.records.values() if r.state in (Outcome.COMPLETE, Outcome.PRUNED) and r.epoch_results]
        feasible = [r for r in ended if self.is_feasible(r) and not math.isnan(r.get_metric(goal.metric))]
        return sorted(feasible, key=lambda r: (-_orient(goal, r.get_metric(goal.metric)), r.n_parameters))

    def is_feasible(self, record: TrialRecord) -> bool:
        """Return whether a trial is within the constraints; False if a constrained metric was not measured."""
        return is_feasible(self.space.constraints, record.get_metric)

    def ask(self, is_in_time: bool = True) -> TrialRecord | None:
        """Return the next trial to train, None when the budget or the space is used up.

        With `is_in_time` False only interrupted trials are returned, so that each ends in a final state.
        """
        if self._numbers_to_restart:
            record: TrialRecord | None = self.records[self._numbers_to_restart.pop(0)]
        else:
            trials = self._draw_trials() if is_in_time else self._redraw_trials()
            record = next((accepted for trial in trials if (accepted := self._accept(trial))), None)
        if record is not None:
            self.tracker.start_trial(record.number, record.settings)
        return record

    def _draw_trials(self) -> Iterator[optuna.Trial]:
        """Yield drawn configurations while the budget lasts, at most `MAX_REJECTED_DRAWS`."""
        budget = self.space.budget
        for _ in range(MAX_REJECTED_DRAWS):
            if len(self.records) >= budget.trials or (
                budget.epochs is not None and self.n_epochs_trained >= budget.epochs
            ):
                return
            if not self._numbers_to_redraw and is_exhausted(self.study):
                break
            yield next(self._redraw_trials(), None) or self.study.ask()
        self.is_exhausted = True

    def _redraw_trials(self) -> Iterator[optuna.Trial]:
        while self._numbers_to_redraw:
            yield optuna.Trial(self.study, find_trial_id(self.study, self._numbers_to_redraw.pop(0)))

    def _accept(self, trial: optuna.Trial) -> TrialRecord | None:
        """Return the record of a configuration to train; None if it was answered without training."""
        params = self.space.draw(trial)
        settings = self.space.resolve_settings(params)
        try:
            costs = compute_costs(settings, self._n_emotions, self._required_metrics)
        except UserError as contradiction:  # for example data.min_seconds above data.max_seconds: no clip is left
            self._answer_untrained(trial, Outcome.CONTRADICTORY, f"contradicts itself: {contradiction}")
            return None
        excesses = self._compute_excesses(costs)
        for metric, excess in excesses.items():
            set_constraint(self.study, trial.number, metric, excess)
        if any(excess > 0 for excess in excesses.values()):
            self._answer_untrained(trial, Outcome.OVER_LIMIT, "over the limit")
            return None
        twin = self._numbers_by_digest.get(_compute_digest(settings))
        if twin is not None:
            self._answer_duplicate(trial, self.records[twin])
            return None
        trial.set_user_attr("params", as_json(params))
        trial.set_user_attr("costs", costs)
        trial.set_user_attr("parameters", int(costs["parameters"]))
        return self._add_record(trial.number, params, costs)

    def _answer_untrained(self, trial: optuna.Trial, outcome: Outcome, message: str) -> None:
        write_untrained(trial, outcome, message)
        self.study.tell(trial, state=TrialState.PRUNED)
        self.untrained_counts[outcome] += 1

    def _compute_excesses(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return by how much each constrained metric in `figures` is out of its bounds; 0 or less is within."""
        excesses: dict[str, float] = {}
        for limit in self.space.constraints:
            if limit.metric in figures:
                excess = limit.compute_excess(figures[limit.metric])
                excesses[limit.metric] = max(excess, excesses.get(limit.metric, excess))
        return excesses

    def _answer_duplicate(self, trial: optuna.Trial, twin: TrialRecord) -> None:
        """Answer a configuration drawn before with its scores; if that trial is running or failed, as failed."""
        self.untrained_counts[Outcome.DUPLICATE] += 1
        write_untrained(trial, Outcome.DUPLICATE, f"same as {twin.number}", twin.number)
        for metric, excess in self._compute_excesses(twin.metrics).items():
            set_constraint(self.study, trial.number, metric, excess)
        if twin.state == Outcome.COMPLETE:
            self.study.tell(trial, self._list_objective_values(twin))
        elif twin.state == Outcome.PRUNED:
            for epoch, score in twin.scores_by_epoch.items():
                set_intermediate_value(self.study, trial.number, epoch, score)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _list_objective_values(self, record: TrialRecord) -> list[float]:
        return [record.get_metric(goal.metric) for goal in self.space.objectives]

    def record_epoch(self, number: int, result: Mapping[str, float]) -> bool:
        """Record an epoch's result; return whether the trial must stop."""
        record, epoch = self.records[number], int(result["epoch"])
        if epoch in record.scores_by_epoch:
            return False
        record.epoch_results.append({name: float(result[name]) for name in RECORDED_METRICS if name in result})
        score = record.get_metric(self._pruning_objective.metric)
        record.scores_by_epoch[epoch] = score
        set_intermediate_value(self.study, number, epoch, score)
        self.tracker.log_epoch(number, result)
        stopped = self._stopping_rule.record_score(number, epoch, _orient(self._pruning_objective, score))
        if self._rung_store is not None and number in self._stopping_rule.rungs.get(epoch, ()):
            self._rung_store.save(self._stopping_rule.rungs)
        stopped = stopped and epoch not in record.cleared_epochs
        if stopped:
            record.state = Outcome.PRUNED
        return stopped

    def can_stop_at(self, number: int, epoch: int) -> bool:
        """Return whether the early-stopping rule can stop a trial after an epoch."""
        return self._stopping_rule.can_stop_at(number, epoch)

    def save_rungs(self) -> None:
        """Save the state of the early-stopping rule."""
        if self._rung_store is not None:
            self._rung_store.save(self._stopping_rule.rungs, is_forced=True)

    def finish(self, number: int, failure: str = "") -> None:
        """Record the end of a trial: pruned if it was stopped, failed if `failure` is given, else complete.

        A trial without a finite value of each objective and constraint has failed.
        """
        record = self.records[number]
        if record.state == Outcome.FAILED:
            return
        failure = failure or ("" if record.state == Outcome.PRUNED else self._explain_missing_metrics(record))
        if failure:
            record.state, record.failure_reason = Outcome.FAILED, failure
        elif record.state == Outcome.RUNNING:
            record.state = Outcome.COMPLETE
        for metric, excess in self._compute_excesses(record.metrics).items():
            if TRIAL_METRICS[metric].known_at != BEFORE_TRAINING and not math.isnan(excess):
                set_constraint(self.study, number, metric, excess)
        attributes: dict[str, Any] = {
            OUTCOME_ATTRIBUTE: record.state.value,
            MESSAGE_ATTRIBUTE: record.state.value,
            "metrics": record.metrics,
            "results": to_columns(record.epoch_results),
        }
        attributes |= {"reason": failure} if failure else {}
        values = self._list_objective_values(record) if record.state == Outcome.COMPLETE else None
        end_trial(self.study, number, attributes, OPTUNA_STATES[record.state], values)
        self.tracker.end_trial(number, record.state.value, record.metrics, failure)

    def _explain_missing_metrics(self, record: TrialRecord) -> str:
        """Return the reason why a trial that ran to its end has failed, "" if it has not."""
        if not record.epoch_results:
            return "ended before its first epoch"
        missing = [name for name in dict.fromkeys(self._required_metrics) if not math.isfinite(record.get_metric(name))]
        return f"no finite {', '.join(missing)} was reported" if missing else ""

    def requeue(self, number: int) -> None:
        """Queue a trial whose process was lost to run again under its number."""
        lost = self.records[number]
        record = self._add_record(number, lost.params, lost.costs)
        record.cleared_epochs = lost.cleared_epochs | frozenset(sorted(lost.scores_by_epoch)[:-1])
        self._numbers_to_restart.append(number)

    @property
    def has_requeued(self) -> bool:
        """Whether trials are queued to run again."""
        return bool(self._numbers_to_restart)


def find_pruning_objective(space: Space) -> Objective:
    """Return the metric that early stopping and the sampler receive after each epoch."""
    first = space.objectives[0]
    is_known_each_epoch = len(space.objectives) == 1 and TRIAL_METRICS[first.metric].known_at == EACH_EPOCH
    return first if is_known_each_epoch else DEV_UAR


def collect_score_histories(space: Space, trials: Sequence[FrozenTrial]) -> ScoreHistories:
    """Yield (trial number, score by epoch) of a study's trained trials for early stopping; higher is better."""
    goal = find_pruning_objective(space)
    for trial in trials:
        if "parameters" in trial.user_attrs:
            yield (
                trial.number,
                {epoch: _orient(goal, score) for epoch, score in trial.intermediate_values.items()},
            )


def _orient(goal: Objective, value: float) -> float:
    return value if goal.direction == "maximize" else -value


def _compute_digest(settings: Settings) -> str:
    return digest_of(settings.dotted(), 32)
