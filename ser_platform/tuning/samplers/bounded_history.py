"""What a sampler is shown of a long study: its best trials and its latest ones, and those that are running.

A model-based sampler reads every trial at every proposal: TPE takes 135 ms a proposal at 10,000 trials of 12 axes. It
learns little from most of them. TPE's good trials are the best 25 at most, and the others weigh less the older they are
(Bergstra, Yamins & Cox, 2013; there the latest 25 count in full): the best and the latest are what it goes by.
"""

from collections.abc import Container
from typing import Any, cast

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ser_platform.tuning.optuna_compat import split_best_trials


class BoundedHistory:
    """Trials of a study, whose storage lists them by number: the `n_best` ones, and the `n_latest` that have ended."""

    def __init__(self, best: int, latest: int) -> None:
        self.n_best, self.n_latest = best, latest
        self._best: list[FrozenTrial] = []
        self._latest: list[FrozenTrial] = []
        self._unfinished: set[int] = set()
        self._known = 0

    def select(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return what is shown of all `trials`, by number; takes time by what is new since the last call."""
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
    """A study of which a sampler sees only some trials."""

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
    """Shows the sampler beside it a bounded history, the same for all of a trial's draws."""

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
    """Optuna's Gaussian process on a bounded history: fitting it takes time by the cube of its trials."""

    def __init__(self, *, best: int = 50, latest: int = 150, **settings: Any) -> None:
        super().__init__(**settings)
        self._history = BoundedHistory(best, latest)
