"""A study's trials as a plain table: the searched axes, and the settings and scores of each trial.

Pruned trials are included: without them only good configurations would remain, and the effect of a bad value would be
underestimated. Their score after a few epochs is not comparable with that of a complete trial. So a pruned trial gets
its last score plus the median gain of the complete trials from that epoch to their end. This keeps the order of the
trials that were pruned at the same epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from ser_platform.tuning.search_space.space import SUBSET_SEPARATOR
from ser_platform.tuning.search_space.trial_metrics import rename_former
from ser_platform.tuning.study.trial_outcome import Outcome, read_outcome

NUMERIC, CATEGORICAL, SUBSET = "numeric", "categorical", "subset"


@dataclass(frozen=True)
class SearchedAxis:
    """One searched setting. `values`: (low, high) if numeric, the choices if categorical, the members if a subset."""

    name: str
    kind: str
    values: tuple[Any, ...]
    is_log: bool = False

    @property
    def unit(self) -> str:
        """The unit of the values, "" without one."""
        endings = {"seconds": "s", "_s": "s", "_db": "dB", "dbfs": "dBFS", "_hz": "Hz"}
        return next((unit for ending, unit in endings.items() if self.name.endswith(ending)), "")

    @property
    def label(self) -> str:
        """Name and unit, as the label of a figure's axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def scale(self, value: float) -> float:
        """Return a number's position between low and high, in [0, 1]; on a logarithmic scale if the axis has one."""
        low, high = self.values
        if self.is_log:
            low, high, value = np.log(low), np.log(high), np.log(value)
        return float((value - low) / (high - low)) if high > low else 0.0


@dataclass(frozen=True)
class Trial:
    """One trial. `dev_uar_by_epoch` is the best dev UAR so far by epoch; `metrics` are those at its end."""

    number: int
    state: Outcome
    params: Mapping[str, Any]
    best_dev_uar: float
    dev_uar_by_epoch: Mapping[int, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialTable:
    """The searched axes and the trials of a study."""

    axes: tuple[SearchedAxis, ...]
    trials: tuple[Trial, ...]

    @cached_property
    def scored(self) -> tuple[Trial, ...]:
        """The trials that finished an epoch and did not fail. A running trial counts like a pruned one."""
        return tuple(
            t
            for t in self.trials
            if t.state in (Outcome.COMPLETE, Outcome.PRUNED, Outcome.RUNNING) and np.isfinite(t.best_dev_uar)
        )

    @cached_property
    def best_first(self) -> tuple[Trial, ...]:
        """The scored trials, complete ones before pruned ones of the same score."""
        return tuple(sorted(self.scored, key=lambda t: (-t.best_dev_uar, t.state != Outcome.COMPLETE, t.number)))

    @cached_property
    def final_scores(self) -> NDArray[np.float64]:
        """The dev UAR of each scored trial at full length, `(n_scored,)`; estimated for pruned ones, see the module."""
        complete = [trial.dev_uar_by_epoch for trial in self.scored if trial.state == Outcome.COMPLETE]
        return np.array([_estimate_final_score(trial, complete) for trial in self.scored])

    def list_values(self, axis: SearchedAxis) -> list[Any]:
        """Return each scored trial's value on an axis, None if the axis does not exist in it."""
        return [trial.params.get(axis.name) for trial in self.scored]


def _estimate_final_score(trial: Trial, complete: list[Mapping[int, float]]) -> float:
    if trial.state == Outcome.COMPLETE or not trial.dev_uar_by_epoch:
        return trial.best_dev_uar
    epoch = max(trial.dev_uar_by_epoch)
    gains = [max(scores.values()) - scores[epoch] for scores in complete if epoch in scores]
    return min(1.0, trial.best_dev_uar + float(np.median(gains))) if gains else trial.best_dev_uar


def make_trial_table(stored: Sequence[FrozenTrial]) -> TrialTable:
    """Return the trials of a study that were trained; the axes are those that Optuna drew."""
    trained = [trial for trial in stored if "parameters" in trial.user_attrs]
    domains = {name: domain for trial in trained for name, domain in trial.distributions.items()}
    params = [item for trial in trained for item in trial.user_attrs.get("params", {}).items()]
    sets = {name for name, value in params if isinstance(value, list | tuple)}
    axes = tuple(_make_axis(name, domain, name in sets) for name, domain in domains.items())
    return TrialTable(axes, tuple(_make_trial(trial) for trial in trained))


def _make_axis(name: str, domain: Any, is_set: bool) -> SearchedAxis:
    if isinstance(domain, CategoricalDistribution):
        if not is_set:
            return SearchedAxis(name, CATEGORICAL, tuple(domain.choices))
        members = dict.fromkeys(member for choice in domain.choices for member in str(choice).split(SUBSET_SEPARATOR))
        return SearchedAxis(name, SUBSET, tuple(members))
    return SearchedAxis(name, NUMERIC, (domain.low, domain.high), domain.log)


def _make_trial(trial: FrozenTrial) -> Trial:
    scores = dict(trial.intermediate_values)
    metrics = {"parameters": trial.user_attrs["parameters"], **rename_former(trial.user_attrs.get("metrics", {}))}
    params = trial.user_attrs.get("params", trial.params)
    score = metrics.get("best_dev_uar", max(scores.values(), default=float("nan")))  # the first only at the trial's end
    return Trial(trial.number, read_outcome(trial), params, float(score), scores, metrics)
