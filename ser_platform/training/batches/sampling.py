"""The training clips of an epoch: `train.sampling`."""

import numpy as np
from numpy.typing import NDArray

SAMPLING_STREAM = 0x5A3  # sampling has a random stream of its own: it changes no other draw


def sample_clips(
    clips: NDArray[np.int64], targets: NDArray[np.int64], sampling: str, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the clips of an epoch; their number is the same in every epoch.

    Args:
        clips: all training clips.
        targets: class indices of every clip of the manifest.
        sampling: `natural` returns all; `balanced` equally many of every class, about `len(clips)` in all, so that
            clips of rare classes repeat; `undersampled` as many of every class as the rarest class has.
        seed, epoch: determine the choice.
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
    """Return the labelled clips of an epoch, followed by at most as many unlabelled clips.

    Epochs continue through a permutation of the unlabelled clips, and then through the next permutation.
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
