"""Grid search: every configuration of a finite space once, in a seeded random order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ser_platform.tuning.optuna_compat import get_fixed_params
from ser_platform.tuning.search_space.space import Space, StoredParams, StoredValue


class ConditionalGridSampler(BaseSampler):
    """Proposes the configurations that are not in the study yet, also in a resumed study.

    Optuna's GridSampler does not support conditions and fails on its last point under ask/tell. Its BruteForceSampler
    builds a tree of all trials at every draw and ends with an exception under ask/tell.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._domains = {axis.name: axis.distribution for axis in space.axes if axis.domain != "fixed"}
        points = list(space.iterate_configurations())
        order = np.random.default_rng(seed).permutation(len(points))
        self._untried: dict[frozenset[tuple[str, Any]], StoredParams] = {
            _make_key(points[at]): points[at] for at in order
        }
        self._known = 0
        self._undecided: set[int] = set()
        self._fallback = RandomSampler(seed=seed)

    def is_exhausted(self, study: Study) -> bool:
        """Return whether every configuration has ended or is running."""
        self._remove_tried(study.get_trials(deepcopy=False))
        return not self._untried

    def _remove_tried(self, trials: Sequence[FrozenTrial]) -> None:
        """Remove the configurations of trials that have started; a trial killed before that has no attributes."""
        self._undecided.update(range(self._known, len(trials)))
        self._known = len(trials)
        for number in sorted(self._undecided):
            attributes = trials[number].user_attrs
            if "state" in attributes or "parameters" in attributes:
                self._untried.pop(_make_key(trials[number].params), None)
                self._undecided.remove(number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._domains

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next configuration that agrees with the settings fixed by an enqueued point."""
        self._remove_tried(study.get_trials(deepcopy=False))
        given = {**get_fixed_params(trial), **trial.params}.items()
        return next((point for point in self._untried.values() if given <= point.items()), {})

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, domain: BaseDistribution) -> Any:
        return self._fallback.sample_independent(study, trial, name, domain)


def _make_key(params: Mapping[str, StoredValue]) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())
