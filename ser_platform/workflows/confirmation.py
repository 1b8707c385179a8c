"""Confirmation: train the best trials again with new seeds, on rotated dev speakers where a corpus has few speakers.

The best dev UAR of many trials on two dev speakers is mostly chance. Test clips are not used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_platform.corpora.splits.split import Split, group_training_speakers
from ser_platform.errors import CorpusError
from ser_platform.settings import Settings
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData
from ser_platform.tuning.execution.fit_pool import FinalistTrainer, ShowProgress
from ser_platform.tuning.study.trial_record import TrialRecord

ROTATE_DEV_BELOW_SPEAKERS = 12  # training speakers
FIRST_CONFIRMATION_SEED = 1000

MakeTrialData = Callable[[Split, Settings], TrialData]


@dataclass(frozen=True)
class ConfirmedTrial:
    """A trial that was trained again: `fits[i]` with `settings[i]` on `splits[i]`."""

    record: TrialRecord
    settings: tuple[Settings, ...]
    splits: tuple[Split, ...]
    fits: tuple[FitResult, ...]

    @property
    def mean_dev_uar(self) -> float:
        """Mean dev UAR over the new seeds."""
        return float(np.mean([fit.best_dev_uar for fit in self.fits]))

    @property
    def median_run(self) -> int:
        """Index of the fit with the median dev UAR (the lower one of an even number)."""
        order = np.argsort([fit.best_dev_uar for fit in self.fits], kind="stable")
        return int(order[(len(order) - 1) // 2])

    def summarise(self) -> dict[str, Any]:
        """Return the entry of a report: trial, dev UAR in the search, and dev UAR with each new seed."""
        new_seeds = [fit.best_dev_uar for fit in self.fits]
        return {"trial": self.record.number, "search": self.record.best_dev_uar, "again": new_seeds}

    @property
    def median_best_epoch(self) -> int:
        """Median best epoch."""
        return int(np.median([fit.best_epoch for fit in self.fits]))


def rotate_dev(split: Split) -> list[Split]:
    """Return the splits for new seeds: other dev speakers where training has few speakers, else the split itself."""
    if len(split.speakers("train")) >= ROTATE_DEV_BELOW_SPEAKERS:
        return [split]
    rotations = []
    for group in group_training_speakers(split):
        try:
            rotations.append(split.with_dev(group))
        except CorpusError:
            continue  # without these speakers an emotion has no training clips
    return rotations or [split]


def confirm(
    records: Sequence[TrialRecord],
    split: Split,
    n_seeds: int,
    make_trial_data: MakeTrialData,
    finalists: FinalistTrainer,
    show_progress: ShowProgress,
) -> list[ConfirmedTrial]:
    """Train each of `records` with `n_seeds` new seeds; return the results sorted by mean dev UAR, best first."""
    rotations = rotate_dev(split)
    splits = tuple(rotations[n % len(rotations)] for n in range(n_seeds))
    jobs: list[FitJob] = []
    for record in records:
        for number, rotation in enumerate(splits):
            settings = record.settings.with_overrides({"seed": FIRST_CONFIRMATION_SEED + number})
            jobs.append(FitJob(settings, make_trial_data(rotation, settings)))
    with show_progress("best trials again with new seeds") as progress:
        fits = finalists.train_all(jobs, progress)
    confirmed = []
    for place, record in enumerate(records):
        part = slice(place * n_seeds, (place + 1) * n_seeds)
        settings_of = tuple(job.settings for job in jobs[part])
        confirmed.append(ConfirmedTrial(record, settings_of, splits, tuple(fits[part])))
    return sorted(confirmed, key=lambda each: (-each.mean_dev_uar, each.record.n_parameters))
