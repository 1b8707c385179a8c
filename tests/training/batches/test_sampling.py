"""Sampling of training clips: counts per class, new draws in every epoch."""

from dataclasses import replace

import numpy as np
import pytest

from ser_platform.settings import resolve
from ser_platform.training.batches.sampling import sample_clips
from ser_platform.training.cross_entropy import make_hard_label_loss
from ser_platform.training.loop import Trainer

TARGETS = np.array([0] * 12 + [1] * 6 + [2] * 3 + [0] * 4)
TRAIN = np.arange(21)  # the last four are no training clips


def epoch(how: str, number: int = 1, seed: int = 0) -> np.ndarray:
    return sample_clips(TRAIN, TARGETS, how, seed=seed, epoch=number)


def test_natural_is_every_clip_once():
    assert epoch("natural").tolist() == TRAIN.tolist()


def test_balanced_has_as_many_of_every_class_and_about_as_many_in_all():
    clips = epoch("balanced")
    assert np.bincount(TARGETS[clips]).tolist() == [7, 7, 7]
    counts = np.bincount(clips, minlength=21)
    assert sorted(counts[:12]) == [0] * 5 + [1] * 7  # of a frequent class some are left out
    assert sorted(counts[18:21]) == [2, 2, 3]  # of a rare class each repeats


def test_undersampled_has_as_many_of_every_class_as_the_rarest():
    clips = epoch("undersampled")
    assert np.bincount(TARGETS[clips]).tolist() == [3, 3, 3]
    assert len(set(clips)) == 9


@pytest.mark.parametrize("how", ["balanced", "undersampled"])
def test_seed_and_epoch_decide_what_is_sampled(how):
    assert epoch(how, 2).tolist() == epoch(how, 2).tolist()
    assert len({tuple(sorted(epoch(how, number, seed))) for number in (1, 2) for seed in (0, 1)}) == 4


@pytest.mark.parametrize("how", ["balanced", "undersampled"])
def test_over_epochs_every_training_clip_is_sampled_and_no_other(how):
    sampled = set(np.concatenate([epoch(how, number) for number in range(30)]))
    assert sampled == set(TRAIN)


@pytest.mark.parametrize("how", ["natural", "balanced", "undersampled"])
def test_class_weights_are_those_of_what_is_sampled(how, training_data):
    seen = []

    def make_loss(settings, weights):
        seen.append(weights.tolist())
        return make_hard_label_loss(settings, weights)

    settings = resolve({"model.name": "bilstm", "model.hidden_size": 4, "train.epochs": 2, "train.sampling": how})
    data = training_data(settings)
    data = replace(data, train=data.train[(data.targets[data.train] > 0) | (np.arange(len(data.train)) % 3 == 0)])
    trainer = Trainer(settings, data, make_loss)
    assert len(list(trainer.epochs())) == 2
    alike = seen[0] == [1.0, 1.0, 1.0]
    assert alike == (how != "natural")
