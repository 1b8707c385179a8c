"""Batches of clips of similar length, in an order that depends on the seed only."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.viewed_clips import StoredViewedClips

SORTED_BATCHES = 8  # number of batches whose clips are sorted by length together: less padding, still random


@dataclass(frozen=True)
class TrainingData:
    """The data of one configuration. Clips are row numbers of the manifest.

    Attributes:
        features: the features of every clip in the configuration's view.
        targets: the class index of every clip, `(n_clips,)`; -1 without a label.
        labels: the emotions in the order of the logits.
        train: clips to train on.
        dev: clips that choose the epoch; None runs all epochs and keeps the last.
        teacher_logits: `(n_clips, n_emotions)`, NaN where no teacher labelled a clip; None without a teacher.
        languages: a number for the language of every clip, `(n_clips,)`; None without an adversary.
        teacher_embeddings: embeddings by a teacher's encoder, `(n_clips, width)`; None without a hint.
    """

    features: StoredViewedClips
    targets: NDArray[np.int64]
    labels: tuple[str, ...]
    train: NDArray[np.int64]
    dev: NDArray[np.int64] | None
    teacher_logits: NDArray[np.float32] | None = None
    languages: NDArray[np.int64] | None = None
    teacher_embeddings: NDArray[np.float32] | None = None

    @property
    def labelled(self) -> NDArray[np.int64]:
        """The training clips with a label."""
        return self.train[self.targets[self.train] >= 0]

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """The training clips without a label."""
        return self.train[self.targets[self.train] < 0]


@dataclass(frozen=True)
class Batch:
    """Clips to compute together, or a part of such a batch.

    Attributes:
        features: `(batch, n_frames, n_features)`, 0 beyond a clip's end.
        lengths: frames of each clip, `(batch,)`.
        targets: class indices `(batch,)`; after mixup probabilities `(batch, n_emotions)`.
        teacher_logits: `(batch, n_emotions)`.
        full_batch_targets: the targets of the whole batch, by which losses are divided so that the losses of its parts
            add up; None where this is the whole batch.
        languages: `(batch,)`.
        teacher_embeddings: `(batch, width)`.
    """

    features: Tensor
    lengths: Tensor
    targets: Tensor
    teacher_logits: Tensor | None
    full_batch_targets: Tensor | None = None
    languages: Tensor | None = None
    teacher_embeddings: Tensor | None = None

    @property
    def full_size(self) -> int:
        """The number of clips of the whole batch."""
        return len(self.targets if self.full_batch_targets is None else self.full_batch_targets)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def select_rows(self, rows: NDArray[np.int64]) -> "Batch":
        """Return the clips `rows` of this whole batch, at least one, padded to the longest of them."""
        chosen = torch.from_numpy(rows).to(self.features.device)
        parts = {name: each[chosen] for name, each in vars(self).items() if each is not None and name != "features"}
        parts["features"] = self.features[chosen, : int(parts["lengths"].max())]
        return replace(self, **parts | {"full_batch_targets": self.targets})


def make_batch(
    data: TrainingData, clips: NDArray[np.int64], normaliser: Normaliser, *, seed: int = 0, epoch: int | None = None
) -> Batch:
    """Return the batch of `clips`; `seed` and `epoch` decide random crops, and `epoch` None means no training."""

    def select(values: NDArray[Any] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(values[clips])

    features, lengths = data.features.batch(clips, normaliser, seed=seed, epoch=epoch)
    return Batch(
        torch.from_numpy(features),
        torch.from_numpy(lengths),
        torch.from_numpy(data.targets[clips]),
        select(data.teacher_logits),
        languages=select(data.languages),
        teacher_embeddings=select(data.teacher_embeddings),
    )


def shuffle_into_batches(
    clips: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return `clips` in random batches of clips of similar length; `lengths` `(n_clips,)` is of the whole manifest."""
    order = rng.permutation(clips)
    n_pools = max(1, round(len(order) / (batch_size * SORTED_BATCHES)))
    batches: list[NDArray[np.int64]] = []
    for part in np.array_split(order, n_pools):
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += np.array_split(part, max(1, round(len(part) / batch_size)))  # no rest of one clip
    return [batches[i] for i in rng.permutation(len(batches))]


def list_batch_sizes(n_clips: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of `shuffle_into_batches` for `n_clips`, in no particular order."""
    n_pools = max(1, round(n_clips / (batch_size * SORTED_BATCHES)))
    pools = [len(pool) for pool in np.array_split(range(n_clips), n_pools)]
    return [len(b) for pool in pools for b in np.array_split(range(pool), max(1, round(pool / batch_size)))]


def batch_by_length(
    clips: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int
) -> Iterator[NDArray[np.int64]]:
    """Yield `clips` in batches, shortest first."""
    order = clips[np.argsort(lengths[clips], kind="stable")]
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]
