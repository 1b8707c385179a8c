"""Speakers assigned to folds, the sexes in turn: for cross-validation inside a trial and for a control."""

from collections.abc import Callable

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split, find_sex_of_speakers, shuffle_balanced_by_sex
from ser_platform.errors import CorpusError

ATTEMPTS = 100  # assignments of speakers to folds, until every fold trains on every emotion

Groups = list[tuple[str, ...]]


def assign_folds(
    speakers_of: Manifest, n_folds: int, seed: int, make_splits: Callable[[Groups], list[Split]]
) -> list[Split]:
    """Return the splits of the first assignment of speakers to `n_folds` groups that leaves each fold every emotion.

    Args:
        speakers_of: the clips whose speakers are assigned.
        make_splits: makes one split for each group of speakers; raises CorpusError where a class has no training clip.

    Raises:
        CorpusError: no assignment was accepted.
    """
    sexes, rng = find_sex_of_speakers(speakers_of), np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        order = shuffle_balanced_by_sex(speakers_of.speakers, sexes, rng)
        groups = [tuple(sorted(map(str, part))) for part in np.array_split(np.array(order, dtype=str), n_folds)]
        try:
            return make_splits(groups)
        except CorpusError:
            continue  # a group holds the only training clips of some emotion
    raise CorpusError(f"some emotion is spoken by too few speakers for each of {n_folds} folds to train on it")
