"""The samplers that propose a study's configurations."""

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from ser_platform.tuning.space import Space


def make_sampler(space: Space, done: int) -> BaseSampler:
    """Return the sampler of a space; `done` trials of a resumed study exist, whose draws are not to be repeated."""
    seed = (space.sampler.seed + done) % 2**31
    if space.sampler.name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=max(4, space.budget.trials // 2))
    return RandomSampler(seed=seed)
