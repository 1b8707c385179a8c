"""The copies of a training set. Clips of dev and test are never copied."""

from dataclasses import dataclass

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError
from ser_platform.features.augmentation.recipes import Recipe, compute_copy_digest


@dataclass(frozen=True)
class PlannedCopy:
    """One copy of a training clip.

    Attributes:
        original_row: manifest row of the original; the copy has its label and speaker.
        index: number of the copy, from 1.
        digest: digest under which its features are stored.
    """

    original_row: int
    index: int
    digest: str


def plan_copies(split: Split, recipe: Recipe, n_copies: int) -> tuple[PlannedCopy, ...]:
    """Return `n_copies` copies of each training clip of a split, ordered by row and index.

    A training clip whose audio is also in dev or test, in a split that may leak, is not copied.

    Raises:
        CorpusError: the clips have no audio digests, because their features are not extracted.
        ValueError: `n_copies` is below 0.
    """
    if n_copies < 0:
        raise ValueError(f"n_copies must be at least 0; got {n_copies}")
    digests = split.manifest.column("audio_sha256")
    if n_copies and not all(digests[split.train]):
        raise CorpusError("training clips have no audio digest: extract their features before copying them")
    held_out = {*digests[split.dev], *digests[split.test]}
    return tuple(
        PlannedCopy(int(row), index, compute_copy_digest(digests[row], recipe.key, index))
        for row in split.train
        if digests[row] not in held_out
        for index in range(1, n_copies + 1)
    )
