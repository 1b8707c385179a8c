"""From the best trials to one candidate: train them again with new seeds, on rotated dev speakers where they are few.

The best of many trials on two dev speakers is mostly luck. Test clips take no part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_platform.corpora.splits.split import Split, training_groups
from ser_platform.errors import CorpusError
from ser_platform.settings import Settings
from ser_platform.tuning.execution.fit_job import Fit, FitJob, Task
from ser_platform.tuning.execution.fit_pool import Counting, Finalists
from ser_platform.tuning.study.recorder import TrialRecord

ROTATE_BELOW = 12  # training speakers
FIRST_NEW_SEED = 1000

TaskOf = Callable[[Split, Settings], Task]


@dataclass(frozen=True)
class Confirmed:
    """A trial trained again. `fits[i]` was trained with seed `seeds[i]` on `splits[i]`."""

    record: TrialRecord
    settings: tuple[Settings, ...]
    splits: tuple[Split, ...]
    fits: tuple[Fit, ...]

    @property
    def mean(self) -> float:
        """Mean dev UAR over the new seeds."""
        return float(np.mean([fit.best_dev_uar for fit in self.fits]))

    @property
    def median(self) -> int:
        """Which run has the median dev UAR (the lower one of an even number)."""
        order = np.argsort([fit.best_dev_uar for fit in self.fits], kind="stable")
        return int(order[(len(order) - 1) // 2])

    def summary(self) -> dict[str, Any]:
        """Return what a report says of it: trial, dev UAR in the search, and with each new seed."""
        again = [fit.best_dev_uar for fit in self.fits]
        return {"trial": self.record.number, "search": self.record.score, "again": again}

    @property
    def epochs(self) -> int:
        """Median best epoch."""
        return int(np.median([fit.best_epoch for fit in self.fits]))


def dev_rotations(split: Split) -> list[Split]:
    """Return the splits for new seeds: other dev speakers where training has few speakers, else the split itself."""
    if len(split.speakers("train")) >= ROTATE_BELOW:
        return [split]
    rotations = []
    for group in training_groups(split):
        try:
            rotations.append(split.with_dev(group))
        except CorpusError:
            continue  # these speakers hold some emotion's only training clips
    return rotations or [split]


def confirm(
    best: Sequence[TrialRecord], split: Split, seeds: int, task_of: TaskOf, finalists: Finalists, counting: Counting
) -> list[Confirmed]:
    """Train each of `best` again with `seeds` new seeds; return them by mean dev UAR, best first."""
    rotations = dev_rotations(split)
    splits = tuple(rotations[n % len(rotations)] for n in range(seeds))
    jobs: list[FitJob] = []
    for record in best:
        for number, on in enumerate(splits):
            settings = record.settings | {"seed": FIRST_NEW_SEED + number}
            jobs.append(FitJob(settings, task_of(on, settings)))
    with counting("best trials again with new seeds") as progress:
        fits = finalists.fits(jobs, progress)
    confirmed = []
    for place, record in enumerate(best):
        part = slice(place * seeds, (place + 1) * seeds)
        settings_of = tuple(job.settings for job in jobs[part])
        confirmed.append(Confirmed(record, settings_of, splits, tuple(fits[part])))
    return sorted(confirmed, key=lambda each: (-each.mean, each.record.parameters))
