"""Batches of clips of similar length, in an order that the seed fixes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.viewed_clips import StoredViewedClips

SORTED_BATCHES = 8  # how many batches' clips are sorted by length together: less padding, order still random


@dataclass(frozen=True)
class TrainingData:
    """What one configuration trains on. Clips are row numbers of the manifest.

    Attributes:
        features: every clip through the configuration's view.
        targets: class indices of every clip, `(n_clips,)`; -1 of one without a label.
        labels: the emotions in the order of the logits.
        train, dev: clips to train on and to choose the epoch by; without dev, training runs its epochs to the end.
        teacher_logits: `(n_clips, n_emotions)`, NaN where no teacher labelled a clip; None trains without a teacher.
        languages: a number for the language of every clip, `(n_clips,)`; None where no adversary is to tell them apart.
        hints: embeddings by a teacher's encoder, `(n_clips, width)`; None where no student is to resemble them.
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
        """The training clips that have a label."""
        return self.train[self.targets[self.train] >= 0]

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """The training clips that have none."""
        return self.train[self.targets[self.train] < 0]


@dataclass(frozen=True)
class Batch:
    """Features `(batch, n_frames, n_features)`, lengths, targets `(batch,)`, teacher logits `(batch, n_emotions)`.

    After mixup, targets are probabilities `(batch, n_emotions)`. `full_batch_targets` are those of all clips of the
    batch of which this is a part, None where it is the whole: losses are divided by the whole, so that parts add up to
    it.
    """

    features: Tensor
    lengths: Tensor
    targets: Tensor
    teacher_logits: Tensor | None
    full_batch_targets: Tensor | None = None
    languages: Tensor | None = None  # `(batch,)`
    teacher_embeddings: Tensor | None = None  # `(batch, width)`

    @property
    def full_size(self) -> int:
        """How many clips the whole batch has."""
        return len(self.targets if self.full_batch_targets is None else self.full_batch_targets)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def select_rows(self, rows: NDArray[np.int64]) -> "Batch":
        """Return the clips `rows`, at least one, of this whole batch, padded no further than the longest of them."""
        chosen = torch.from_numpy(rows).to(self.features.device)
        parts = {name: each[chosen] for name, each in vars(self).items() if each is not None and name != "features"}
        parts["features"] = self.features[chosen, : int(parts["lengths"].max())]
        return replace(self, **parts | {"full_batch_targets": self.targets})


def make_batch(
    data: TrainingData, clips: NDArray[np.int64], normaliser: Normaliser, *, seed: int = 0, epoch: int | None = None
) -> Batch:
    """Return the batch of `clips`; `seed` and `epoch` are of training, which may crop at random."""
    features, lengths = data.features.batch(clips, normaliser, seed=seed, epoch=epoch)
    optional = ("teacher_logits", "languages", "teacher_embeddings")
    columns = {name: values for name in ("targets", *optional) if (values := getattr(data, name)) is not None}
    rows = {name: torch.from_numpy(values[clips]) for name, values in columns.items()}
    return Batch(torch.from_numpy(features), torch.from_numpy(lengths), **{"teacher_logits": None, **rows})


def shuffle_into_batches(
    clips: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Deal `clips` into batches: random, but with clips of similar length together."""
    order = rng.permutation(clips)
    n_pools = max(1, round(len(order) / (batch_size * SORTED_BATCHES)))
    batches: list[NDArray[np.int64]] = []
    for part in np.array_split(order, n_pools):
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += np.array_split(part, max(1, round(len(part) / batch_size)))  # no batch of one clip left over
    return [batches[i] for i in rng.permutation(len(batches))]


def batch_sizes(n_clips: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches that `shuffle_into_batches` makes of `n_clips`, in no particular order."""
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
