"""Clips that are one recording are one group, whether their samples are the same or nearly."""

import numpy as np

from ser_platform.corpora.doctor.fingerprints import Fingerprint
from ser_platform.corpora.doctor.recordings import group_recordings


def prints(*seeds):
    """Return fingerprints of 100 frames; equal seeds make equal ones."""
    made = []
    for seed in seeds:
        words = np.random.default_rng(seed).integers(0, 1 << 32, 100, dtype=np.uint32)
        made.append(Fingerprint(words, words ^ np.uint32(1), np.ones(100, np.bool_)))
    return made


def test_a_clip_without_copies_is_in_no_group():
    assert group_recordings(["a", "b"], prints(1, 2)) == ()


def test_the_same_samples_are_an_exact_group():
    (found,) = group_recordings(["a", "b", "a", "a"], prints(1, 2, 1, 1))
    assert (found.rows, found.is_exact, found.near_pairs) == ((0, 2, 3), True, ())


def test_near_copies_have_the_matching_pair():
    (found,) = group_recordings(["a", "b", "c"], prints(1, 2, 1))
    assert (found.rows, found.is_exact) == ((0, 2), False)
    assert [(pair.first, pair.second, pair.bit_error_rate) for pair in found.near_pairs] == [(0, 2, 0.0)]


def test_exact_and_near_copies_of_a_recording_are_one_group():
    (found,) = group_recordings(["a", "b", "a", "b", "c"], prints(1, 1, 1, 1, 2))
    assert (found.rows, found.is_exact) == ((0, 1, 2, 3), False)


def test_groups_are_in_the_order_of_their_first_clip():
    found = group_recordings(["x", "a", "b", "b", "a"], prints(0, 1, 2, 2, 1))
    assert [recording.rows for recording in found] == [(1, 4), (2, 3)]


def test_no_clips_have_no_groups():
    assert group_recordings([], []) == ()
