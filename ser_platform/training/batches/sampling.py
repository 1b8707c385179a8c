"""Which training clips an epoch goes through: `train.sampling`."""

import numpy as np
from numpy.typing import NDArray

SAMPLING_STREAM = 0x5A3  # sampling has a random stream of its own: it changes no other draw


def sample_clips(
    clips: NDArray[np.int64], targets: NDArray[np.int64], sampling: str, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the clips of an epoch, as many in every one.

    Args:
        clips: all training clips.
        targets: class indices of every clip of the manifest.
        how: natural takes all; balanced as many of every class as keep the epoch's length, those of rare classes more
            than once and of frequent ones not all; undersampled as many of every class as the rarest has.
        seed, epoch: decide which are taken.
    """
    if sampling == "natural":
        return clips
    rng = np.random.default_rng([SAMPLING_STREAM, seed, epoch])
    by_class = [clips[targets[clips] == target] for target in np.unique(targets[clips])]
    each = min(map(len, by_class)) if sampling == "undersampled" else -(-len(clips) // len(by_class))
    return np.concatenate([np.resize(rng.permutation(own), each) for own in by_class])


def add_unlabelled(
    labelled: NDArray[np.int64], unlabelled: NDArray[np.int64], *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the labelled clips of an epoch and behind them unlabelled ones, no more than there are labelled.

    All are heard over the epochs: a permutation is gone through, and then another.
    """
    if not len(unlabelled):
        return labelled
    each = min(len(labelled), len(unlabelled))
    places = (epoch - 1) * each + np.arange(each)
    rounds = {number: _shuffle(unlabelled, seed, int(number)) for number in np.unique(places // len(unlabelled))}
    drawn = [rounds[place // len(unlabelled)][place % len(unlabelled)] for place in places]
    return np.concatenate([labelled, np.array(drawn, dtype=np.int64)])


def _shuffle(clips: NDArray[np.int64], seed: int, number: int) -> NDArray[np.int64]:
    return np.random.default_rng([SAMPLING_STREAM, seed, number, len(clips)]).permutation(clips)
