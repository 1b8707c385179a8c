"""Several workers on one batch: distribution of clips, and sums over all workers.

Every worker reads the same batches in the same order, augments each whole batch and then computes its own share. Losses
are divided by the clips or weights of the whole batch, so the sum of the workers' gradients is the gradient of the
batch: one worker and several workers agree up to rounding.

Gradients are summed once per step by one call. DistributedDataParallel averages instead of summing, and needs a
gradient of every parameter from every worker, also from a worker without clips.

Batch normalisation uses the statistics of a worker's share (SyncBatchNorm needs CUDA), so such models train a little
differently on several workers; before an evaluation all workers copy the running statistics of worker 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn


class WorkerGroup(Protocol):
    """The workers of one training. `rank` is the number of this worker, from 0 to `size` - 1."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of every worker's `values`, bit-identical on each. All must call it with the same shape."""


@dataclass(frozen=True)
class SingleWorker:
    """A group of one worker."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """Return `values`."""
        return values


SINGLE_WORKER = SingleWorker()


class TorchWorkerGroup:
    """The workers of torch's initialised process group (gloo or nccl); sums are computed on `device`."""

    def __init__(self, device: torch.device) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._device = device

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of every worker's `values`, on the device of `values`."""
        total = values.detach().to(self._device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)


def min_clips_per_pass(model: nn.Module) -> int:
    """Return the least number of clips per forward pass in training: 2 with batch normalisation, else 1."""
    return 2 if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()) else 1


def distribute_clips(lengths: NDArray[np.int64], n_shares: int, least: int = 1) -> list[NDArray[np.int64]]:
    """Return `n_shares` arrays of sorted positions of clips with `lengths` frames, `(n_clips,)`.

    Shares have similar numbers of clips, numbers of frames and longest clips: clips are assigned from long to short to
    shares 0, 1, ..., 1, 0, 0, 1, ... A share has at least `least` clips (see `min_clips_per_pass`), or none where there
    are too few clips.
    """
    filled = min(n_shares, max(1, len(lengths) // least))
    turn = np.arange(len(lengths)) % (2 * filled)
    share_of = np.empty(len(lengths), dtype=np.int64)
    share_of[np.argsort(-lengths, kind="stable")] = np.minimum(turn, 2 * filled - 1 - turn)
    return [np.flatnonzero(share_of == share) for share in range(n_shares)]


def sum_gradients(parameters: Iterable[nn.Parameter], group: WorkerGroup) -> None:
    """Replace each gradient by its sum over all workers; a parameter without gradient on all workers keeps None."""
    if group.size == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in trained], device=trained[0].device)
    parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained]
    total = group.sum(torch.cat([*parts, used.to(parts[0].dtype)]))
    sums = total.split([*(parameter.numel() for parameter in trained), len(trained)])
    for number, (parameter, gradient) in enumerate(zip(trained, sums, strict=False)):
        if parameter.grad is not None or sums[-1][number]:
            parameter.grad = gradient.view_as(parameter)


def broadcast_first_worker(tensors: Iterable[Tensor], group: WorkerGroup) -> None:
    """Copy worker 0's values to `tensors`, in the same order on all workers; boolean tensors are left as they are."""
    if group.size == 1:
        return
    for tensor in tensors:
        if tensor.dtype != torch.bool:
            tensor.copy_(group.sum(tensor if group.rank == 0 else torch.zeros_like(tensor)))
