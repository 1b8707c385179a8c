"""Out-of-memory failures: detection, error message, and the search for a number of parts that fits."""

import gc
from collections.abc import Callable

import torch

from ser_platform.errors import WorkFailed
from ser_platform.settings import Settings
from ser_platform.training.workers import WorkerGroup

# Only CUDA raises an error class of its own; these are the messages of MPS, torch on CPUs, torch on Windows.
PHRASES = ("out of memory", "can't allocate memory", "not enough memory")


class OutOfMemory(WorkFailed):
    """A batch does not fit into the memory of its device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


def make_out_of_memory_error(
    settings: Settings, device: torch.device, n_clips: int, seconds: float | None, n_parts: int
) -> OutOfMemory:
    """Return the error of a batch of `n_clips`, computed in `n_parts`.

    `seconds` is the duration of its longest clip; None where a clip is one row.
    """
    longest = "" if seconds is None else f", the longest of {seconds:.1f} s"
    parts = "at once" if n_parts == 1 else f"in {n_parts} parts"
    sizes = f"train.batch_size ({settings.train.batch_size}) or data.max_seconds ({settings.data.max_seconds:g})"
    more = f"raise train.accumulate ({settings.train.accumulate}), which train.auto_batch=true does automatically, or "
    return OutOfMemory(
        f"out of memory on {device} with a batch of {n_clips} clips{longest}, computed {parts}; "
        f"{'' if settings.train.auto_batch else more}lower {sizes}"
    )


def find_n_parts(attempt: Callable[[int], None], n_parts: int, most: int, group: WorkerGroup) -> int | None:
    """Return the first of `n_parts`, 2 * `n_parts`, ..., `most` that fits on every worker; None where none does.

    `attempt` computes a batch in the given number of parts. It must not wait for other workers, which may fail.
    """
    while True:
        fits = torch.tensor(float(_fits(attempt, n_parts)))
        if group.sum(fits) == group.size:
            return n_parts
        if n_parts >= most:
            return None
        n_parts = min(2 * n_parts, most)


def _fits(attempt: Callable[[int], None], n_parts: int) -> bool:
    try:
        attempt(n_parts)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # Here the error, whose traceback references the tensors, is gone.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
