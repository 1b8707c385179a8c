"""Several workers on one batch: who computes which clips, and sums over all of them.

Every worker goes through the same batches in the same order, changes each as a whole (mixup takes a clip's partner from
anywhere in it) and then computes its own share. Losses are divided by the whole batch's clips or weights, so the sum of
the workers' gradients is the gradient of the batch: nothing is averaged, a worker without a clip adds nothing, and one
worker and several agree up to rounding.

Gradients are summed once a step by one call, not by DistributedDataParallel. That overlaps them with the backward pass,
but it averages where a sum is wanted, waits for a gradient of every parameter from every worker (a worker without clips
and an unused parameter need options of their own), and hides the parts of an accumulated batch behind `no_sync`.

Batch normalisation takes its statistics from a worker's share (SyncBatchNorm needs CUDA), so models that have it train
a little differently on several workers; before an epoch is judged all take worker 0's running statistics.
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
    """The workers of one training. `rank` is this one's number, from 0 to `size` - 1."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of every worker's `values`, the same bits on each. All must call it, with the same shape."""


@dataclass(frozen=True)
class SingleWorker:
    """One worker: nothing to agree on."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """Return `values`."""
        return values


SINGLE_WORKER = SingleWorker()


class TorchWorkerGroup:
    """The workers of torch's process group, which must be there (gloo or nccl); `device` is what its sums run on."""

    def __init__(self, device: torch.device) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._device = device

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of every worker's `values`, on the device they came from."""
        total = values.detach().to(self._device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)


def min_clips_per_pass(model: nn.Module) -> int:
    """Return how many clips `model` must be given at once in training: batch normalisation knows no single one."""
    return 2 if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()) else 1


def deal_clips(lengths: NDArray[np.int64], n_shares: int, least: int = 1) -> list[NDArray[np.int64]]:
    """Deal clips of `lengths` frames `(n_clips,)` into `n_shares`; return the positions in each, in order.

    From long to short they go out to and fro, so that shares are alike in clips, in frames and in the longest clip. A
    share holds at least `least` clips (see `min_clips_per_pass`), or none where the clips do not suffice.
    """
    filled = min(n_shares, max(1, len(lengths) // least))
    turn = np.arange(len(lengths)) % (2 * filled)
    share_of = np.empty(len(lengths), dtype=np.int64)
    share_of[np.argsort(-lengths, kind="stable")] = np.minimum(turn, 2 * filled - 1 - turn)
    return [np.flatnonzero(share_of == share) for share in range(n_shares)]


def sum_gradients(parameters: Iterable[nn.Parameter], group: WorkerGroup) -> None:
    """Put the sum of all workers' gradients into each; a parameter that no worker used keeps none."""
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
    """Put worker 0's numbers into `tensors`, which all have in the same order; masks are no numbers, and left."""
    if group.size == 1:
        return
    for tensor in tensors:
        if tensor.dtype != torch.bool:
            tensor.copy_(group.sum(tensor if group.rank == 0 else torch.zeros_like(tensor)))
