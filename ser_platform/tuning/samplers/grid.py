"""Every configuration of a finite space, each once, in an order that the seed shuffles."""

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
    """Proposes what the study has not tried. What was tried is read from the study: a resumed one goes on.

    Optuna's GridSampler knows no conditions and fails on its last point under ask and tell; its BruteForceSampler
    builds a tree of all trials at every draw, and there ends by an exception.
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
        """Tell whether every configuration was tried, or is being tried."""
        self._remove_tried(study.get_trials(deepcopy=False))
        return not self._untried

    def _remove_tried(self, trials: Sequence[FrozenTrial]) -> None:
        """Take out what was tried: what has a word on how it went. A trial lost to a kill before it began has none."""
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
        """Return the next configuration; beside settings that a point gives, one that has them."""
        self._remove_tried(study.get_trials(deepcopy=False))
        given = {**get_fixed_params(trial), **trial.params}.items()
        return next((point for point in self._untried.values() if given <= point.items()), {})

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, domain: BaseDistribution) -> Any:
        return self._fallback.sample_independent(study, trial, name, domain)


def _make_key(params: Mapping[str, StoredValue]) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())
