"""Samplers that read only the best, the latest and the running trials of a long study.

A model-based sampler reads every trial at every proposal: TPE takes 135 ms a proposal at 10,000 trials of 12 axes. Most
trials have little weight in it: TPE's good trials are at most the best 25, and the weight of the others decreases with
age (Bergstra, Yamins & Cox, 2013, where the latest 25 have full weight).
"""

from collections.abc import Container
from typing import Any, cast

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ser_platform.tuning.optuna_compat import split_best_trials


class BoundedHistory:
    """Selects the `n_best` best and the `n_latest` latest ended trials of a study, and its unfinished ones."""

    def __init__(self, best: int, latest: int) -> None:
        self.n_best, self.n_latest = best, latest
        self._best: list[FrozenTrial] = []
        self._latest: list[FrozenTrial] = []
        self._unfinished: set[int] = set()
        self._known = 0

    def select(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the selection of all `trials` by number, in time proportional to the trials since the last call."""
        self._unfinished.update(range(self._known, len(trials)))
        self._known = len(trials)
        ended = {number for number in self._unfinished if trials[number].state.is_finished()}
        self._unfinished -= ended
        new = [trials[number] for number in sorted(ended) if trials[number].state != TrialState.FAIL]
        if new:
            self._best = split_best_trials(study, [*self._best, *new], self.n_best)
            self._latest = sorted([*self._latest, *new], key=lambda trial: trial.number)[-self.n_latest :]
        running = [trials[number] for number in self._unfinished]
        return sorted({t.number: t for t in (*self._best, *self._latest, *running)}.values(), key=lambda t: t.number)


class _StudyView:
    """A study whose `get_trials` returns only the given trials."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    get_trials = _get_trials


class _BoundedHistoryMixin(BaseSampler):
    """Passes a bounded history to the sampler class after it, the same for all draws of a trial."""

    _history: BoundedHistory
    _view: Study | None = None
    _viewing_trial = -1

    def _make_view(self, study: Study, trial: FrozenTrial) -> Study:
        if self._view is None or self._viewing_trial != trial.number:
            shown = self._history.select(study, study.get_trials(deepcopy=False))
            self._view, self._viewing_trial = cast(Study, _StudyView(study, shown)), trial.number
        return self._view

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._make_view(study, trial), trial)  # type: ignore[safe-super]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._make_view(study, trial), trial, search_space)  # type: ignore[safe-super]

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, domain: BaseDistribution) -> Any:
        return super().sample_independent(self._make_view(study, trial), trial, name, domain)  # type: ignore[safe-super]


class BoundedTpeSampler(_BoundedHistoryMixin, TPESampler):
    """Optuna's TPE on a bounded history."""

    def __init__(self, *, best: int = 50, latest: int = 350, **settings: Any) -> None:
        super().__init__(**settings)
        self._history = BoundedHistory(best, latest)


class BoundedGpSampler(_BoundedHistoryMixin, GPSampler):
    """Optuna's Gaussian process on a bounded history: its fit takes time cubic in the number of trials."""

    def __init__(self, *, best: int = 50, latest: int = 150, **settings: Any) -> None:
        super().__init__(**settings)
        self._history = BoundedHistory(best, latest)
