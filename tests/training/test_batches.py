"""Batches hold clips of similar length; masks touch only what they should."""

import numpy as np
import pytest
import torch

from ser_platform.settings import resolve
from ser_platform.training.batches import Batch, by_length, make_batch, mask_spectra, shuffled


def batch_of_ones(lengths: list[int], n_columns: int = 20) -> Batch:
    """Clips of ones; 7 behind a clip's end, to see whether anybody writes there."""
    features = torch.full((len(lengths), max(lengths), n_columns), 7.0)
    for row, length in enumerate(lengths):
        features[row, :length] = 1
    return Batch(features, torch.tensor(lengths), torch.zeros(len(lengths), dtype=torch.int64), None)


@pytest.mark.parametrize("n_clips", [1, 7, 8, 9, 33, 100])
def test_an_epoch_sees_every_clip_once(n_clips):
    clips = np.arange(n_clips) + 5
    batches = shuffled(clips, np.arange(200), 8, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(clips)


@pytest.mark.parametrize("n_clips", [9, 33, 65, 97])
def test_no_batch_of_one_clip_is_left_over(n_clips):
    batches = shuffled(np.arange(n_clips), np.arange(n_clips), 8, np.random.default_rng(0))
    assert min(map(len, batches)) > 1


def test_the_number_of_batches_is_the_same_in_every_epoch():
    rng = np.random.default_rng(0)
    assert len({len(shuffled(np.arange(75), np.arange(75), 8, rng)) for _ in range(10)}) == 1


def test_clips_of_a_batch_are_similar_in_length():
    lengths = np.random.default_rng(1).integers(50, 500, 64)
    spread = [np.ptp(lengths[batch]) for batch in shuffled(np.arange(64), lengths, 8, np.random.default_rng(0))]
    assert np.mean(spread) < np.ptp(lengths) / 4


def test_another_epoch_has_other_batches():
    rng = np.random.default_rng(0)
    first, second = (shuffled(np.arange(200), np.ones(200), 8, rng) for _ in range(2))
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}


def test_evaluation_goes_from_short_to_long():
    lengths = np.array([9, 1, 5, 3])
    assert [part.tolist() for part in by_length(np.array([0, 1, 2, 3]), lengths, 3)] == [[1, 3, 2], [0]]


@pytest.mark.parametrize("seed", range(10))
def test_masks_leave_the_padding_alone(seed):
    batch = batch_of_ones([40, 80, 25])
    mask_spectra(batch, 3, np.random.default_rng(seed))
    own = torch.arange(80) < batch.lengths[:, None]
    assert set(batch.features[own].unique().tolist()) <= {0, 1}


def test_masks_stay_small():
    batch = batch_of_ones([100] * 50)
    mask_spectra(batch, 1, np.random.default_rng(0))
    in_time = (batch.features == 0).all(dim=2).sum(dim=1)
    in_columns = (batch.features == 0).all(dim=1).sum(dim=1)
    assert in_time.max() <= 15 and in_columns.max() <= 3
    assert in_time.max() > 5 and in_columns.max() > 0


def test_every_clip_has_masks_of_its_own():
    batch = batch_of_ones([100] * 8)
    mask_spectra(batch, 1, np.random.default_rng(0))
    assert len({tuple((clip == 0).flatten().tolist()) for clip in batch.features}) > 4


def test_a_waveform_is_masked_in_time_only():
    batch = batch_of_ones([1000], n_columns=1)
    mask_spectra(batch, 2, np.random.default_rng(0))
    assert 0 < (batch.features == 0).sum() <= 300


def test_masks_do_not_reach_into_the_store(training_data):
    settings = resolve({"model.name": "bilstm"})
    data = training_data(settings)
    normaliser = data.features.normaliser(data.train)
    first = make_batch(data, data.train[:4], normaliser)
    before = first.features.clone()
    mask_spectra(first, 8, np.random.default_rng(0))
    torch.testing.assert_close(make_batch(data, data.train[:4], normaliser).features, before)


def test_a_batch_carries_its_clips_targets(training_data):
    settings = resolve({"model.name": "bilstm"})
    data = training_data(settings)
    batch = make_batch(data, np.array([7, 0]), data.features.normaliser(data.train))
    assert batch.targets.tolist() == data.targets[[7, 0]].tolist()
    assert batch.teacher_logits is None
