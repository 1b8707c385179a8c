"""The samplers that propose a study's configurations, and the configurations that come before their proposals."""

import warnings

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from ser_platform.tuning.samplers.bounded_history import BoundedGpSampler, BoundedTpeSampler
from ser_platform.tuning.samplers.grid import ConditionalGridSampler
from ser_platform.tuning.search_space.space import Space, StoredParams

MIN_STARTUP_TRIALS, MAX_STARTUP_TRIALS = 4, 32  # trials at random before TPE has enough to go by
MIN_POPULATION, MAX_POPULATION = 4, 50  # of NSGA-II, whose own is 50


class SobolSampler(QMCSampler):
    """Sobol points over all axes of a space; those that a configuration does not have are left unused.

    Optuna's takes the axes of the first trial for the space: the others of a conditional space would be random.
    """

    def __init__(self, space: Space, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # it tells the user of what is not theirs to choose
            super().__init__(qmc_type="sobol", scramble=True, seed=seed)
        self._domains = {axis.name: axis.distribution for axis in space.axes if axis.domain != "fixed"}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._domains


def make_sampler(space: Space, n_existing: int) -> BaseSampler:
    """Return the sampler of a space; `n_existing` trials of a resumed study exist, whose draws are not to be repeated.

    TPE, GP and NSGA-II read constraints from every trial that they read at all: TPE those told as pruned too, the other
    two complete ones. Axes that only some configurations have are modelled one by one by TPE, and drawn at random by
    NSGA-II.
    """
    name, seed, trials = space.sampler.name, space.sampler.seed, space.budget.trials
    fresh = int(np.random.SeedSequence([seed, n_existing]).generate_state(1)[0])
    if name == "grid":
        return ConditionalGridSampler(
            space, seed
        )  # its order is to stay, as that of the points of qmc: both know where they were
    if name == "qmc":
        return SobolSampler(space, seed)
    if name == "gp":
        return BoundedGpSampler(seed=fresh)
    if name == "nsga2":
        return NSGAIISampler(seed=fresh, population_size=int(np.clip(trials // 4, MIN_POPULATION, MAX_POPULATION)))
    if name == "tpe":
        return BoundedTpeSampler(
            seed=fresh, n_startup_trials=int(np.clip(trials // 2, MIN_STARTUP_TRIALS, MAX_STARTUP_TRIALS))
        )
    return RandomSampler(seed=fresh)


def is_exhausted(study: Study) -> bool:
    """Tell whether a study's sampler has nothing left to propose, as a grid has in the end."""
    return isinstance(study.sampler, ConditionalGridSampler) and study.sampler.is_exhausted(study)


def list_first_points(space: Space) -> list[StoredParams]:
    """Return what is tried first, as Optuna stores it: the space's points, then every architecture once.

    The sampler so does not settle on one before it has seen all; its other settings are drawn. A grid sees all anyway.
    """
    given = [stored for point in space.points if (stored := space.encode(point, partial=True))]
    named = {point.get("model.name") for point in given}
    choices = (axis for axis in space.axes if axis.domain == "choice" and space.sampler.name != "grid")
    architectures = next((axis.values for axis in choices if axis.name == "model.name"), ())
    points = [*given, *({"model.name": name} for name in architectures if name not in named)]
    return [point for number, point in enumerate(points) if point not in points[:number]]
