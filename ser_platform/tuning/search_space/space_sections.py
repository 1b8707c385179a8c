"""The sections of a search-space file, their keys and valid values: the parser and the JSON schema share them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from ser_platform.settings.table import Kind
from ser_platform.tuning.search_space.trial_metrics import TRIAL_METRICS

SECTIONS = {
    "role": "what is searched: a teacher or a student",
    "base": "settings of every trial; a missing one has its default",
    "space": "the searched settings: a domain for each",
    "points": "configurations to try first; the rest of each is drawn",
    "objective": "the metrics to optimise; several end with a Pareto set",
    "constraints": "bounds that a configuration must keep",
    "budget": "when the search ends: whatever is used up first",
    "confirm": "the best trials are trained again, with new seeds",
    "sampler": "the rule that proposes configurations",
    "scheduler": "the rule that stops trials early",
    "resources": "the cores, GPUs and workers of a trial",
}
ROLES = ("teacher", "student")
TPE, RANDOM, QMC, GP, NSGA2, GRID = "tpe", "random", "qmc", "gp", "nsga2", "grid"
SAMPLERS = (TPE, RANDOM, QMC, GP, NSGA2, GRID)
ASHA, MEDIAN, NO_SCHEDULER = "asha", "median", "none"
SCHEDULERS = (ASHA, MEDIAN, NO_SCHEDULER)
MAX_SEED = 2**31 - 1
MAX_CHOICES = 1000

# Other words for the keys and choices of a file, in lower case with underscores.
OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "algorithm": ("sampler", "name"),
    "axes": ("space",),
    "bayesian": ("tpe",),
    "categorical": ("choice",),
    "condition": ("when",),
    "config": ("base",),
    "constant": ("fixed",),
    "defaults": ("base",),
    "depends_on": ("when",),
    "early_stopping": ("scheduler",),
    "eta": ("reduction_factor",),
    "fixed": ("base",),
    "float": ("uniform",),
    "goal": ("objective",),
    "grace": ("grace_epochs",),
    "grace_period": ("grace_epochs",),
    "gpus": ("resources",),
    "hyperband": ("asha",),
    "hyperparameters": ("space",),
    "if": ("when",),
    "log": ("loguniform",),
    "log_uniform": ("loguniform",),
    "max": ("maximize", "at_most"),
    "max_trials": ("trials",),
    "metrics": ("objective",),
    "min": ("minimize", "at_least"),
    "n_trials": ("trials",),
    "num_samples": ("trials",),
    "one_of": ("choice",),
    "options": ("choice",),
    "parameters": ("space",),
    "params": ("space",),
    "pruner": ("scheduler",),
    "q": ("step",),
    "quniform": ("uniform",),
    "randint": ("int",),
    "range": ("uniform", "int"),
    "searcher": ("sampler",),
    "search_space": ("space",),
    "settings": ("base",),
    "time": ("minutes",),
    "timeout": ("minutes",),
    "trials": ("budget",),
    "type": ("name",),
    "uar": ("dev_uar",),
    "value": ("fixed",),
    "values": ("choice",),
}


@dataclass(frozen=True)
class Entry:
    """A key of a section: a number of at least `low` (or above `above`) and at most `high`, or one of `choices`."""

    description: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    whole: bool = True
    choices: tuple[str, ...] = ()
    required: bool = False

    def accepts(self, value: object) -> bool:
        """Return whether a value is valid."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return False
        is_in_range = (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )
        return is_in_range and not (self.whole and value != int(value))

    @property
    def valid(self) -> str:
        """Which values are valid, in words."""
        if self.choices:
            return " or ".join(self.choices)
        number = "a whole number" if self.whole else "a number"
        limits = {"of at least": self.low, "above": self.above, "at most": self.high}
        parts = [f"{words} {limit:.10g}" for words, limit in limits.items() if limit is not None]
        return " ".join([number, " and ".join(parts)]).strip()


ROLE = Entry(SECTIONS["role"], choices=ROLES, required=True)
# Sections that are a mapping of these keys.
ENTRIES: dict[str, Mapping[str, Entry]] = {
    "budget": {
        "trials": Entry("trials in all", low=1),
        "minutes": Entry("minutes of the searches of a study together", low=0.01, whole=False),
        "epochs": Entry("epochs over all trials", low=1),
    },
    "confirm": {
        "trials": Entry("how many of the best trials are trained again", low=1),
        "seeds": Entry("the number of new seeds for each of them", low=1),
    },
    "sampler": {
        "name": Entry(SECTIONS["sampler"], choices=SAMPLERS),
        "seed": Entry("seeds the sampler", low=0, high=MAX_SEED),
    },
    "scheduler": {
        "name": Entry(SECTIONS["scheduler"], choices=SCHEDULERS),
        "grace_epochs": Entry("epochs of each trial before it can be stopped", low=1),
        "reduction_factor": Entry("asha keeps the best 1 / reduction_factor at each rung", low=2),
        "brackets": Entry("brackets of asha, each with a longer grace", low=1),
    },
    "resources": {
        "cpus": Entry("CPU cores of a trial", low=1),
        "gpus": Entry("GPUs of a trial: at most 1, or a whole number", low=0, whole=False),
        "workers": Entry("workers of Ray Train of a trial", low=1),
    },
}
METRIC = Entry("a metric that trials report", choices=tuple(TRIAL_METRICS), required=True)
# Sections that are a list of mappings of these keys.
LISTED_ENTRIES: dict[str, Mapping[str, Entry]] = {
    "objective": {
        "metric": METRIC,
        "direction": Entry("which values of the metric are better", choices=("maximize", "minimize")),
    },
    "constraints": {
        "metric": METRIC,
        "at_most": Entry("largest valid value", whole=False),
        "at_least": Entry("smallest valid value", whole=False),
    },
}


@dataclass(frozen=True)
class Domain:
    """How a setting is searched.

    Attributes:
        kinds: the kinds of settings that can be searched so.
        least, most: how many values the domain lists.
        end: what both ends of a range must be, beside valid values of the setting.
        options: the keys that an axis can have beside the domain.
    """

    kinds: tuple[Kind, ...] = get_args(Kind)
    least: int = 1
    most: int = MAX_CHOICES
    end: Entry | None = None
    options: tuple[str, ...] = ()


DOMAINS = {
    "choice": Domain(),
    "subset": Domain(("names",), most=12, options=("min",)),  # 12 names have 4,095 subsets
    "uniform": Domain(("number",), 2, 2, Entry("", whole=False), ("step",)),
    "loguniform": Domain(("whole", "number"), 2, 2, Entry("", above=0, whole=False)),
    "int": Domain(("whole", "number"), 2, 2, Entry(""), ("step",)),
    "fixed": Domain(),
}
OPTIONS = {
    "step": Entry("distance between neighbouring values, from the low end on", above=0, whole=False),
    "min": Entry("fewest names of a set", low=1),
}
