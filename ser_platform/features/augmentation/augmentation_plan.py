"""Which copies a training set gets. Nothing here can copy what dev or test judges by."""

from dataclasses import dataclass

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError
from ser_platform.features.augmentation.recipes import Recipe, compute_copy_digest


@dataclass(frozen=True)
class PlannedCopy:
    """One copy of a training clip.

    Attributes:
        row: of the original in the manifest: the copy has its label and speaker.
        index: which copy, from 1.
        digest: what its features are kept under.
    """

    original_row: int
    index: int
    digest: str


def plan_copies(split: Split, recipe: Recipe, n_copies: int) -> tuple[PlannedCopy, ...]:
    """Return the copies of a split's training clips, `n_copies` of each, by row and index.

    It takes the split, not rows, so that nobody can hand it those of dev or test. A training clip whose audio is in dev
    or test as well, in a split that may leak, gets no copy.

    Raises:
        CorpusError: the clips have no audio digests yet: they are not prepared.
        ValueError: `n_copies` is below 0.
    """
    if n_copies < 0:
        raise ValueError(f"n_copies must be at least 0; got {n_copies}")
    digests = split.manifest.column("audio_sha256")
    if n_copies and not all(digests[split.train]):
        raise CorpusError("training clips have no audio digest yet: extract their features before copying them")
    held_out = {*digests[split.dev], *digests[split.test]}
    return tuple(
        PlannedCopy(int(row), index, compute_copy_digest(digests[row], recipe.key, index))
        for row in split.train
        if digests[row] not in held_out
        for index in range(1, n_copies + 1)
    )
