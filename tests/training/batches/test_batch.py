"""Batches contain clips of similar length, each clip once."""

import numpy as np
import pytest

from ser_platform.settings import resolve
from ser_platform.training.batches.batch import batch_by_length, make_batch, shuffle_into_batches


@pytest.mark.parametrize("n_clips", [1, 7, 8, 9, 33, 100])
def test_an_epoch_contains_every_clip_once(n_clips):
    clips = np.arange(n_clips) + 5
    batches = shuffle_into_batches(clips, np.arange(200), 8, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(clips)


@pytest.mark.parametrize("n_clips", [9, 33, 65, 97])
def test_there_is_no_batch_of_one_clip(n_clips):
    batches = shuffle_into_batches(np.arange(n_clips), np.arange(n_clips), 8, np.random.default_rng(0))
    assert min(map(len, batches)) > 1


def test_the_number_of_batches_is_the_same_in_every_epoch():
    rng = np.random.default_rng(0)
    assert len({len(shuffle_into_batches(np.arange(75), np.arange(75), 8, rng)) for _ in range(10)}) == 1


def test_clips_of_a_batch_are_similar_in_length():
    lengths = np.random.default_rng(1).integers(50, 500, 64)
    spread = [
        np.ptp(lengths[batch]) for batch in shuffle_into_batches(np.arange(64), lengths, 8, np.random.default_rng(0))
    ]
    assert np.mean(spread) < np.ptp(lengths) / 4


def test_another_epoch_has_other_batches():
    rng = np.random.default_rng(0)
    first, second = (shuffle_into_batches(np.arange(200), np.ones(200), 8, rng) for _ in range(2))
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}


def test_batch_by_length_sorts_from_short_to_long():
    lengths = np.array([9, 1, 5, 3])
    assert [part.tolist() for part in batch_by_length(np.array([0, 1, 2, 3]), lengths, 3)] == [[1, 3, 2], [0]]


def test_a_batch_has_its_clips_targets(training_data):
    settings = resolve({"model.name": "bilstm"})
    data = training_data(settings)
    batch = make_batch(data, np.array([7, 0]), data.features.fit_normaliser(data.train))
    assert batch.targets.tolist() == data.targets[[7, 0]].tolist()
    assert batch.teacher_logits is None
