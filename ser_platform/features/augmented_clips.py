"""Copies of training clips in the store: made once, kept and found like originals, by a digest that is known before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits.split import Split
from ser_platform.errors import BadAudio, WorkFailed
from ser_platform.features.augmentation.augmentation_plan import Copy, expand
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.store.extraction import Job, Mapper, Source, folder_of, make_jobs, on_this_machine, stored_in
from ser_platform.features.store.feature_store import Progress, families_folder, settle
from ser_platform.features.store.merging import NO_SPACE

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CopiedClips:
    """The copies that a training may use, behind the clips of the manifest.

    Attributes:
        hashes: a digest a copy.
        originals: the rows in the manifest that they are copies of, `(n_copies,)`; labels and speakers are theirs.
        recipes: the name of each one's recipe.
        indices: which copy of its original by that recipe, from 1, `(n_copies,)`.
    """

    hashes: tuple[str, ...]
    originals: Rows
    recipes: tuple[str, ...]
    indices: Rows

    def chosen(self, recipe: str, n_copies: int, train: Rows) -> Rows:
        """Return the numbers of the first `n_copies` copies by a recipe of the clips `train`."""
        if not self.hashes:
            return np.empty(0, dtype=np.int64)
        fitting = (np.array(self.recipes) == recipe) & (self.indices <= n_copies) & np.isin(self.originals, train)
        return np.flatnonzero(fitting)


NO_COPIES = CopiedClips((), np.empty(0, dtype=np.int64), (), np.empty(0, dtype=np.int64))


def prepare_copies(
    split: Split,
    wanted: Iterable[tuple[str, int]],
    names: Sequence[str],
    progress: Progress | None = None,
    *,
    mapper: Mapper = on_this_machine,
    dtype: str = "float32",
) -> CopiedClips:
    """Make sure that copies of a split's training clips are stored; return them.

    Args:
        wanted: recipes by name, and how many copies of each clip.
        names: families to store.

    A copy of which nothing usable is left is not there: its original is still trained on.
    """
    copies = [(recipe, copy) for recipe, n in wanted for copy in expand(split, RECIPES[recipe], n)]
    folders = [folder_of(families_folder(), name, dtype) for name in names]
    held = [stored_in(folder) for folder in folders]
    todo = [pair for pair in copies if any(bytes.fromhex(pair[1].digest) not in clips for clips in held)]
    jobs = make_jobs(list(_sources(split, todo)), names, dtype, families_folder())
    try:
        spoilt = _extract(jobs, todo, progress, mapper)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise WorkFailed(
            f"no space left for copies in {families_folder()}; make room (ser features gc), set SER_HOME to a larger "
            "disk, or ask for fewer augment.copies. What was made is kept"
        ) from error
    kept = [(recipe, copy) for recipe, copy in copies if copy.digest not in spoilt]
    settle(names, [bytes.fromhex(copy.digest) for _, copy in kept], dtype)
    return CopiedClips(
        tuple(copy.digest for _, copy in kept),
        np.array([copy.row for _, copy in kept], dtype=np.int64),
        tuple(recipe for recipe, _ in kept),
        np.array([copy.index for _, copy in kept], dtype=np.int64),
    )


def _extract(jobs: Sequence[Job], todo: list[tuple[str, Copy]], progress: Progress | None, mapper: Mapper) -> set[str]:
    """Store copies; return the digests of those of which nothing usable is left."""
    spoilt: set[str] = set()
    n_done = 0
    for done in mapper(jobs):
        for (_, copy), outcome in zip(todo[done.first : done.first + len(done.outcomes)], done.outcomes, strict=True):
            if isinstance(outcome, BadAudio):
                spoilt.add(copy.digest)
        n_done += len(done.outcomes)
        if progress:
            progress(n_done, len(todo))
    return spoilt


def _sources(split: Split, copies: list[tuple[str, Copy]]) -> Iterator[Source]:
    columns = [split.manifest.column(name) for name in ("path", "start_s", "end_s")]
    for recipe, copy in copies:
        path, start_s, end_s = (column[copy.row] for column in columns)
        yield Source(str(path), _seconds(start_s), _seconds(end_s), recipe, copy.index)


def _seconds(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
