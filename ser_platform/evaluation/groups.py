"""How a model did on groups of people: by sex, and by corpus, language and age where the test has several."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest
from ser_platform.metrics import uar

GROUPINGS = ("sex", "corpus", "language", "age")
MOST_GROUPS = 12  # of a grouping; ages in years would be one for each speaker


@dataclass(frozen=True)
class GroupScore:
    """UAR in [0, 1] over the emotions that a group's clips show."""

    grouping: str
    group: str
    n_speakers: int
    n_clips: int
    uar: float


def score_groups(clips: Manifest, labels: tuple[str, ...], predictions: NDArray[np.int64]) -> list[GroupScore]:
    """Return the scores of every group of clips, in their order with `predictions` `(n_clips,)`.

    Clips of whom nothing is said are left out, and groupings with one group.
    """
    targets, speakers = clips.encode_targets(labels), np.array(clips.column("speaker"))
    scores = []
    for grouping in GROUPINGS:
        values = np.array([value or "" for value in clips.column(grouping)])
        groups = sorted(set(values) - {""})
        if not 1 < len(groups) <= MOST_GROUPS:
            continue
        for group in groups:
            rows = np.flatnonzero(values == group)
            value = uar(targets[rows], predictions[rows], len(labels))
            scores.append(GroupScore(grouping, str(group), len(set(speakers[rows])), len(rows), value))
    return scores
