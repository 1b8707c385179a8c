"""Copies of training clips in the store: made once, kept and found like originals, by a digest that is known before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.augmentation_plan import plan_copies
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.store.extraction import (
    ClipSource,
    JobMapper,
    family_folder,
    find_stored_digests,
    make_jobs,
    map_on_this_machine,
)
from ser_platform.features.store.feature_store import (
    ProgressCallback,
    families_folder,
    finalise_families,
    report_full_disk,
)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class AugmentedClips:
    """The copies that a training may use, behind the clips of the manifest.

    Attributes:
        hashes: a digest a copy.
        originals: the rows in the manifest that they are copies of, `(n_copies,)`; labels and speakers are theirs.
        recipes: the name of each one's recipe.
        indices: which copy of its original by that recipe, from 1, `(n_copies,)`.
    """

    hashes: tuple[str, ...]
    original_rows: Rows
    recipes: tuple[str, ...]
    copy_indices: Rows

    def select_copies(self, recipe: str, n_copies: int, train: Rows) -> Rows:
        """Return the numbers of the first `n_copies` copies by a recipe of the clips `train`."""
        if not self.hashes:
            return np.empty(0, dtype=np.int64)
        is_chosen = (np.array(self.recipes) == recipe) & (self.copy_indices <= n_copies)
        return np.flatnonzero(is_chosen & np.isin(self.original_rows, train))


NO_AUGMENTED_CLIPS = AugmentedClips((), np.empty(0, dtype=np.int64), (), np.empty(0, dtype=np.int64))


def prepare_augmented_clips(
    split: Split,
    copies_per_recipe: Iterable[tuple[str, int]],
    names: Sequence[str],
    progress: ProgressCallback | None = None,
    *,
    mapper: JobMapper = map_on_this_machine,
    dtype: str = "float32",
) -> AugmentedClips:
    """Make sure that copies of a split's training clips are stored; return them.

    Args:
        wanted: recipes by name, and how many copies of each clip.
        names: families to store.

    A copy of which nothing usable is left is not there: its original is still trained on.
    """
    copies = [(recipe, copy) for recipe, n in copies_per_recipe for copy in plan_copies(split, RECIPES[recipe], n)]
    root = families_folder()
    stored = [find_stored_digests(family_folder(root, name, dtype)) for name in names]
    todo = [pair for pair in copies if any(bytes.fromhex(pair[1].digest) not in clips for clips in stored)]
    utterances = list(split.manifest) if todo else []
    sources = [ClipSource.from_utterance(utterances[copy.original_row], recipe, copy.index) for recipe, copy in todo]
    message = (
        f"no space left for copies in {root}; make room (ser features gc), set SER_HOME to a larger disk, or ask for "
        "fewer augment.copies. What was made is kept"
    )
    unusable: set[str] = set()
    n_done = 0
    with report_full_disk(lambda: message):
        for done in mapper(make_jobs(sources, names, dtype, root)):
            part = todo[done.first_clip : done.first_clip + len(done.outcomes)]
            unusable |= {
                copy.digest
                for (_, copy), outcome in zip(part, done.outcomes, strict=True)
                if isinstance(outcome, BadAudio)
            }
            n_done += len(done.outcomes)
            if progress:
                progress(n_done, len(todo))
    usable = [(recipe, copy) for recipe, copy in copies if copy.digest not in unusable]
    finalise_families(names, [bytes.fromhex(copy.digest) for _, copy in usable], dtype)
    return AugmentedClips(
        tuple(copy.digest for _, copy in usable),
        np.array([copy.original_row for _, copy in usable], dtype=np.int64),
        tuple(recipe for recipe, _ in usable),
        np.array([copy.index for _, copy in usable], dtype=np.int64),
    )
