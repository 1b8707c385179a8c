"""What the C library does with memory that training frees, and oneDNN with what it has compiled."""

import ctypes
import functools
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MMAP_THRESHOLD_BYTES = 32 * 2**20  # the most that glibc takes
TRIM_THRESHOLD_BYTES = 2**30
ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"  # read by oneDNN once, at its first convolution
ONEDNN_CACHE_CAPACITY = 64  # a network's layers and their gradients at one length of clips; the next batch has another


@functools.cache
def retain_freed_memory() -> None:
    """Have this process keep what it frees, up to a gibibyte, for its next training step.

    glibc hands the large blocks of a step back to the system, and each next step faults them in again, page by page: 9
    of 10 page faults of a training are of that. Elsewhere than with glibc nothing is changed. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def limit_onednn_cache() -> None:
    """Have oneDNN keep few of the kernels that it compiles, unless the user says how many.

    It compiles one for each layer and length of clips and keeps 1024, each with buffers of its own: a process that
    trains convolutions for an hour holds gigabytes of them. Batches differ in length, so few are met again; measured on
    `separable_cnn`, steps take as long with 64. Source: the primitive cache in oneDNN's developer guide.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, str(ONEDNN_CACHE_CAPACITY))
