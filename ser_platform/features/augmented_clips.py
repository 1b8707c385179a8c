"""Copies of training clips in the store: made once, kept and found like originals, by a digest that is known before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.augmentation_plan import PlannedCopy, plan_copies
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.store.extraction import (
    ClipSource,
    ExtractionJob,
    JobMapper,
    family_folder,
    find_stored_digests,
    make_jobs,
    map_on_this_machine,
)
from ser_platform.features.store.feature_store import ProgressCallback, families_folder, finalise_families
from ser_platform.files import report_full_disk

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
        fitting = (
            (np.array(self.recipes) == recipe) & (self.copy_indices <= n_copies) & np.isin(self.original_rows, train)
        )
        return np.flatnonzero(fitting)


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
    folders = [family_folder(families_folder(), name, dtype) for name in names]
    held = [find_stored_digests(folder) for folder in folders]
    todo = [pair for pair in copies if any(bytes.fromhex(pair[1].digest) not in clips for clips in held)]
    jobs = make_jobs(list(_sources(split, todo)), names, dtype, families_folder())
    with report_full_disk(
        lambda: (
            f"no space left for copies in {families_folder()}; make room (ser features gc), set SER_HOME to a larger "
            "disk, or reduce augment.copies. What was made is kept"
        )
    ):
        unusable = _extract(jobs, todo, progress, mapper)
    usable = [(recipe, copy) for recipe, copy in copies if copy.digest not in unusable]
    finalise_families(names, [bytes.fromhex(copy.digest) for _, copy in usable], dtype)
    return AugmentedClips(
        tuple(copy.digest for _, copy in usable),
        np.array([copy.original_row for _, copy in usable], dtype=np.int64),
        tuple(recipe for recipe, _ in usable),
        np.array([copy.index for _, copy in usable], dtype=np.int64),
    )


def _extract(
    jobs: Sequence[ExtractionJob],
    todo: list[tuple[str, PlannedCopy]],
    progress: ProgressCallback | None,
    mapper: JobMapper,
) -> set[str]:
    """Store copies; return the digests of those of which nothing usable is left."""
    unusable: set[str] = set()
    n_done = 0
    for done in mapper(jobs):
        for (_, copy), outcome in zip(
            todo[done.first_clip : done.first_clip + len(done.outcomes)], done.outcomes, strict=True
        ):
            if isinstance(outcome, BadAudio):
                unusable.add(copy.digest)
        n_done += len(done.outcomes)
        if progress:
            progress(n_done, len(todo))
    return unusable


def _sources(split: Split, copies: list[tuple[str, PlannedCopy]]) -> Iterator[ClipSource]:
    columns = [split.manifest.column(name) for name in ("path", "start_s", "end_s")]
    for recipe, copy in copies:
        path, start_s, end_s = (column[copy.original_row] for column in columns)
        yield ClipSource(str(path), _seconds(start_s), _seconds(end_s), recipe, copy.index)


def _seconds(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
