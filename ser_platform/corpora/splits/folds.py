"""Assigns speakers to folds with balanced sexes, for cross-validation in a trial and for the distillation control."""

from collections.abc import Callable

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split, find_sex_of_speakers, shuffle_balanced_by_sex
from ser_platform.errors import CorpusError

ATTEMPTS = 100  # random assignments that are tried

Groups = list[tuple[str, ...]]


def assign_folds(clips: Manifest, n_folds: int, seed: int, make_splits: Callable[[Groups], list[Split]]) -> list[Split]:
    """Return the splits of the first random assignment of speakers to folds that `make_splits` accepts.

    Args:
        clips: the clips whose speakers are assigned to `n_folds` groups.
        make_splits: returns one split per group of speakers; raises CorpusError where an emotion has no training clip.

    Raises:
        CorpusError: `make_splits` refused all of 100 assignments.
    """
    sexes, rng = find_sex_of_speakers(clips), np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        order = shuffle_balanced_by_sex(clips.speakers, sexes, rng)
        groups = [tuple(sorted(map(str, part))) for part in np.array_split(np.array(order, dtype=str), n_folds)]
        try:
            return make_splits(groups)
        except CorpusError:
            continue  # one group contains all training clips of an emotion
    raise CorpusError(
        f"an emotion has too few speakers for {n_folds} folds: in each fold, every emotion needs training clips"
    )
