"""The check that some configuration of a search space can be trained, before a study makes its folder."""

import itertools

import optuna
from optuna.samplers import RandomSampler

from ser_platform.errors import UserError
from ser_platform.training.configuration import feature_view, refuse_contradictions
from ser_platform.tuning.search_space.space import Space

MAX_LISTED_CONFIGURATIONS = 4096  # of a finite space, of which few may be feasible
N_RANDOM_DRAWS = 64  # configurations; a search skips the few whose settings contradict each other


def refuse_infeasible(space: Space) -> None:
    """Refuse a space in which the settings of every configuration contradict each other.

    Raises:
        UserError: no configuration was found that can be trained; names the contradiction in the first one.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=space.sampler.seed))
    for point in space.points:
        if stored := space.encode(point, partial=True):
            study.enqueue_trial(stored)
    refused: UserError | None = None
    drawn = (space.draw(study.ask()) for _ in range(N_RANDOM_DRAWS + len(space.points)))
    is_finite = all(axis.is_finite for axis in space.axes)
    listed = itertools.islice(space.iterate_configurations(), MAX_LISTED_CONFIGURATIONS) if is_finite else ()
    for params in itertools.chain(drawn, map(space.decode, listed)):
        try:
            settings = space.resolve_settings(params)
            feature_view(settings)
            refuse_contradictions(settings)
        except UserError as error:
            refused = refused or error
        else:
            return
    raise UserError(f"{space.name}: no configuration of the space can be trained: {refused}")
