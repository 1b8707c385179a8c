"""Stored clips through a view: batches for training, statistics for the normaliser. Computes no features."""

import numpy as np
from numpy.typing import NDArray

from ser_platform.features.normaliser import Normaliser
from ser_platform.features.store import open_family
from ser_platform.features.view import FeatureView


class ViewedFeatures:
    """The clips of `hashes` through a view."""

    def __init__(self, view: FeatureView, hashes: tuple[str, ...]) -> None:
        self.view = view
        self._families = {name: open_family(name, hashes) for name in view.sets}
        full = self._families[view.sets[0]].lengths
        self.lengths = np.minimum(full, view.max_frames)  # frames of each clip, (n_clips,)

    def normaliser(self, clips: NDArray[np.int64]) -> Normaliser:
        """Fit the normaliser on whole clips `(n_clips,)` from their stored sums; reads no features."""
        sums = [self._families[name].sums[clips].sum(axis=0)[:, : self.view.width(name)] for name in self.view.sets]
        totals = np.concatenate(sums, axis=1)
        n_frames = int(self._families[self.view.sets[0]].lengths[clips].sum())
        return Normaliser.from_sums(n_frames, totals[0], totals[1])

    def batch(self, clips: NDArray[np.int64], normaliser: Normaliser) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return normalised features `(n_clips, n_frames, n_features)`, 0 past a clip's end, and lengths."""
        lengths = self.lengths[clips]
        padded = np.zeros((len(clips), int(lengths.max()), self.view.n_features), dtype=np.float32)
        first = 0
        for name in self.view.sets:
            family, columns = self._families[name], slice(first, first + self.view.width(name))
            mean, scale = normaliser.mean[columns], 1 / normaliser.std[columns]
            for row, clip in enumerate(clips):
                frames = self.view.frames(int(family.lengths[clip]))
                target = padded[row, : frames.stop - frames.start, columns]
                np.subtract(family.clip(int(clip))[frames, : len(mean)], mean, out=target)
                target *= scale
            first = columns.stop
        return padded, lengths
