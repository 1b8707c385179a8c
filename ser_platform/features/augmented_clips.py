"""Copies of training clips in the feature store: made once, and found by a digest like original clips."""

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
    find_stored_digests,
    make_jobs,
    map_on_this_machine,
)
from ser_platform.features.store.feature_store import ProgressCallback, finalise_families
from ser_platform.features.store.folders import families_folder, family_folder
from ser_platform.files import report_full_disk

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class AugmentedClips:
    """The stored copies of training clips; training numbers them after the clips of the manifest.

    Attributes:
        hashes: digest of each copy.
        original_rows: manifest row of each copy's original, `(n_copies,)`; the copy has its label and speaker.
        recipes: name of each copy's recipe.
        copy_indices: number of each copy among those of its original by its recipe, from 1, `(n_copies,)`.
    """

    hashes: tuple[str, ...]
    original_rows: Rows
    recipes: tuple[str, ...]
    copy_indices: Rows

    def select_copies(self, recipe: str, n_copies: int, train: Rows) -> Rows:
        """Return the numbers of the first `n_copies` copies by a recipe of the clips in the manifest rows `train`."""
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
    """Store copies of a split's training clips where they are not stored yet; return them.

    A copy that is silent or otherwise unusable is left out.

    Args:
        split: the split whose training clips are copied.
        copies_per_recipe: names of recipes, and the number of copies of each clip.
        names: families to store.
        progress: called with (copies done, copies to do).
        mapper: runs the extraction.
        dtype: dtype of the stored features.

    Raises:
        WorkFailed: the disk is full.
    """
    copies = [(recipe, copy) for recipe, n in copies_per_recipe for copy in plan_copies(split, RECIPES[recipe], n)]
    root = families_folder()
    stored = [find_stored_digests(family_folder(root, name, dtype)) for name in names]
    todo = [pair for pair in copies if any(bytes.fromhex(pair[1].digest) not in clips for clips in stored)]
    utterances = list(split.manifest) if todo else []
    sources = [ClipSource.from_utterance(utterances[copy.original_row], recipe, copy.index) for recipe, copy in todo]
    message = (
        f"no space left for copies in {root}; free space (ser features gc), set SER_HOME to a larger disk, or use "
        "fewer augment.copies; finished copies are kept"
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
