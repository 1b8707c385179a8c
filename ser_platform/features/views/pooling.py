"""Pooling: a clip as one row of statistics of its columns over its frames."""

import numpy as np
from numpy.typing import NDArray

from ser_platform.features.families.clip_functionals import compute_percentiles
from ser_platform.features.store.shard import compute_sums

NO_POOL = "none"
PERCENTILES = (5, 25, 50, 75, 95)
# Statistics in the order of their concatenation: the mean of every column, then the std of every column, ...
POOLS: dict[str, tuple[str, ...]] = {
    NO_POOL: (),
    "mean": ("mean",),
    "mean_std": ("mean", "std"),
    "mean_std_min_max": ("mean", "std", "min", "max"),
    "percentiles": tuple(f"p{percent}" for percent in PERCENTILES),
}
POOLS_FROM_SUMS = ("mean", "mean_std")  # computed from sums and sums of squares, without reading frames


def pool(frames: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the statistics `name` of frames `(n_frames, n_features)`, one row `(n_statistics * n_features,)`."""
    if name == "percentiles":
        return compute_percentiles(frames, PERCENTILES).ravel()
    pooled = pool_sums(np.array([len(frames)]), compute_sums(frames)[None], name)[0]
    return np.concatenate([pooled, frames.min(axis=0), frames.max(axis=0)]) if name == "mean_std_min_max" else pooled


def pool_sums(n_frames: NDArray[np.int64], sums: NDArray[np.float64], name: str) -> NDArray[np.float32]:
    """Return the mean, and unless `name` is "mean" the standard deviation, of clips `(n_clips, ...)` from their sums.

    Args:
        n_frames: frames of each clip, `(n_clips,)`.
        sums: sums and sums of squares over its frames, `(n_clips, 2, n_features)`.
        name: a key of `POOLS`.
    """
    mean = sums[:, 0] / n_frames[:, None]
    if name == "mean":
        return mean.astype(np.float32)
    std = np.sqrt(np.maximum(sums[:, 1] / n_frames[:, None] - mean**2, 0.0))
    return np.concatenate([mean, std], axis=1).astype(np.float32)
