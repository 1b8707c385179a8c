"""UAR by group of speakers: by sex, corpus, language and age, where the test clips have several groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest
from ser_platform.metrics import uar

GROUPINGS = ("sex", "corpus", "language", "age")
MAX_GROUPS = 12  # groups of a grouping; ages in years would give one per speaker


@dataclass(frozen=True)
class GroupScore:
    """UAR of one group, in [0, 1], over the emotions in its clips."""

    grouping: str
    group: str
    n_speakers: int
    n_clips: int
    uar: float


def score_groups(clips: Manifest, labels: tuple[str, ...], predictions: NDArray[np.int64]) -> list[GroupScore]:
    """Return the score of every group; `predictions` `(n_clips,)` are in the order of `clips`.

    Clips without a value are left out, and so are groupings with one group or with more than `MAX_GROUPS`.
    """
    targets, speakers = clips.encode_targets(labels), np.array(clips.column("speaker"))
    scores = []
    for grouping in GROUPINGS:
        values = np.array([value or "" for value in clips.column(grouping)])
        groups = sorted(set(values) - {""})
        if not 1 < len(groups) <= MAX_GROUPS:
            continue
        for group in groups:
            rows = np.flatnonzero(values == group)
            value = uar(targets[rows], predictions[rows], len(labels))
            scores.append(GroupScore(grouping, str(group), len(set(speakers[rows])), len(rows), value))
    return scores
