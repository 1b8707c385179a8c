"""Memory settings of a training process: glibc's thresholds for freed memory, and oneDNN's kernel cache."""

import ctypes
import functools
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MMAP_THRESHOLD_BYTES = 32 * 2**20  # the most that glibc takes
TRIM_THRESHOLD_BYTES = 2**30
ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"  # read by oneDNN once, at its first convolution
ONEDNN_CACHE_CAPACITY = 64  # enough for the layers of a network and their gradients at one clip length


@functools.cache
def retain_freed_memory() -> None:
    """Make this process keep up to a gibibyte of freed memory for its next training step.

    By default glibc returns large blocks to the system after each step, and the next step causes page faults for them:
    9 of 10 page faults of a training. Without glibc nothing changes. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)


def limit_onednn_cache() -> None:
    """Limit oneDNN's cache of compiled kernels to 64, unless the user has set `ONEDNN_PRIMITIVE_CACHE_CAPACITY`.

    oneDNN compiles a kernel for each layer and clip length and keeps 1024, each with its own buffers: gigabytes after
    an hour of training convolutions. Batches differ in length, so few kernels are reused: steps of `separable_cnn` take
    as long with 64. Source: the primitive cache in oneDNN's developer guide.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, str(ONEDNN_CACHE_CAPACITY))
