"""The sampler of a study, and the configurations that are tried before its proposals."""

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

MIN_STARTUP_TRIALS, MAX_STARTUP_TRIALS = 4, 32  # random trials before TPE's first proposal
MIN_POPULATION, MAX_POPULATION = 4, 50  # of NSGA-II; Optuna's default is 50


class SobolSampler(QMCSampler):
    """Sobol points over all axes of a space; values of axes that a configuration does not have are ignored.

    Optuna's own sampler uses only the axes of the first trial: the other axes of a conditional space would be random.
    """

    def __init__(self, space: Space, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the user cannot act on it
            super().__init__(qmc_type="sobol", scramble=True, seed=seed)
        self._domains = {axis.name: axis.distribution for axis in space.axes if axis.domain != "fixed"}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._domains


def make_sampler(space: Space, n_existing: int) -> BaseSampler:
    """Return the sampler of a space.

    `n_existing`, the number of trials of a resumed study, changes the seed, so that draws are not repeated. TPE reads
    constraints from complete and pruned trials, GP and NSGA-II from complete ones. TPE models axes that only some
    configurations have one by one; NSGA-II draws them at random.
    """
    name, seed, trials = space.sampler.name, space.sampler.seed, space.budget.trials
    fresh = int(np.random.SeedSequence([seed, n_existing]).generate_state(1)[0])
    if name == "grid":
        # The order of a grid and of Sobol points must not change on a resume: both continue in it.
        return ConditionalGridSampler(space, seed)
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
    """Return whether the sampler has no proposal left; only a grid can be exhausted."""
    return isinstance(study.sampler, ConditionalGridSampler) and study.sampler.is_exhausted(study)


def list_first_points(space: Space) -> list[StoredParams]:
    """Return the points to enqueue first, as Optuna stores them: those of the space, then each architecture once.

    The sampler thus has a score of each architecture before it prefers one; the other settings are drawn. A grid needs
    no such points.
    """
    given = [stored for point in space.points if (stored := space.encode(point, partial=True))]
    named = {point.get("model.name") for point in given}
    choices = (axis for axis in space.axes if axis.domain == "choice" and space.sampler.name != "grid")
    architectures = next((axis.values for axis in choices if axis.name == "model.name"), ())
    points = [*given, *({"model.name": name} for name in architectures if name not in named)]
    return [point for number, point in enumerate(points) if point not in points[:number]]
