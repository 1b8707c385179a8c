"""The sections of a search-space file that hold numbers and names, not settings: their keys and what each can be."""

from dataclasses import dataclass

from ser_platform.tuning.search_space.yaml_file import MAX_SEED, SAMPLERS, SCHEDULERS


@dataclass(frozen=True)
class Entry:
    """A key of a section: a number of at least `low` and at most `high`, or one of `choices`."""

    description: str
    low: float = 0
    high: float | None = None
    whole: bool = True
    choices: tuple[str, ...] = ()


ENTRIES: dict[str, dict[str, Entry]] = {
    "budget": {
        "trials": Entry("trials in all", low=1),
        "minutes": Entry("minutes of the searches of a study together", low=0.01, whole=False),
        "epochs": Entry("epochs over all trials", low=1),
    },
    "confirm": {
        "trials": Entry("how many of the best trials are trained again", low=1),
        "seeds": Entry("with how many new seeds each", low=1),
    },
    "sampler": {
        "name": Entry("what proposes configurations", choices=SAMPLERS),
        "seed": Entry("seeds the sampler", high=MAX_SEED),
    },
    "scheduler": {
        "name": Entry("the rule that stops trials early", choices=SCHEDULERS),
        "grace_epochs": Entry("epochs of each trial before it can be stopped", low=1),
        "reduction_factor": Entry("asha keeps the best 1 / reduction_factor at each rung", low=2),
        "brackets": Entry("brackets of asha, each with a longer grace", low=1),
    },
    "resources": {
        "cpus": Entry("CPU cores of a trial", low=1),
        "gpus": Entry("GPUs of a trial: a share of one, or whole ones", whole=False),
        "workers": Entry("workers of Ray Train of a trial", low=1),
    },
}
