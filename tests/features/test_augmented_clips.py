"""Copies of training clips: made once, used in training, never of dev or test."""

import numpy as np

from ser_platform.corpora.splits.split import Split
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, prepare_augmented_clips
from ser_platform.features.store.extraction import map_on_this_machine
from ser_platform.features.store.feature_store import open_family
from ser_platform.settings import resolve
from ser_platform.training.loop import Trainer
from ser_platform.tuning.execution.fit_job import TrialData

SMALL = {"train.epochs": 1, "model.width": 4, "model.hidden_size": 8, "data.max_seconds": 0.5}


def make_trial_data(split: Split, copies=NO_AUGMENTED_CLIPS) -> TrialData:
    return TrialData.from_split(split, split.manifest.labels, copies=copies)


def test_only_training_clips_are_copied_and_only_once(split):
    sent = []

    def count(jobs):
        sent.append(sum(len(job.clips) for job in jobs))
        return map_on_this_machine(jobs)

    copies = prepare_augmented_clips(split, [("rooms", 2)], ["log_mel"], mapper=count)
    assert set(copies.original_rows) == set(split.train)
    assert len(copies.hashes) == 2 * len(split.train) == sent[0]
    prepare_augmented_clips(split, [("rooms", 2)], ["log_mel"], mapper=count)
    assert sent[1] == 0


def test_a_copy_has_the_features_of_its_recipe(split):
    copies = prepare_augmented_clips(split, [("fourfold", 3)], ["log_mel"])
    stored = open_family("log_mel", copies.hashes)
    originals = open_family("log_mel", tuple(split.manifest.column("audio_sha256")))
    faster_or_slower = np.flatnonzero(copies.copy_indices == 2)
    for number in faster_or_slower:  # the second of fourfold changes the speed by a tenth
        ratio = stored.lengths[number] / originals.lengths[copies.original_rows[number]]
        assert min(abs(ratio - 1 / 0.9), abs(ratio - 1 / 1.1)) < 0.05
    assert len(RECIPES["fourfold"].variants) == 3


def test_a_trial_trains_on_the_number_of_copies_in_its_settings(split):
    task = make_trial_data(split, prepare_augmented_clips(split, [("fourfold", 2), ("prosody", 2)], ["log_mel"]))
    for n_copies, recipe in ((0, "fourfold"), (1, "fourfold"), (2, "prosody")):
        settings = resolve(SMALL | {"augment.copies": n_copies, "augment.recipe": recipe})
        data = task.make_training_data(settings)
        assert len(data.train) == (1 + n_copies) * len(split.train)
        copied = data.train[len(split.train) :]
        originals = np.tile(split.train[:, None], n_copies).ravel()
        assert sorted(data.targets[copied]) == sorted(data.targets[originals])
        assert set(data.dev) == set(split.dev)
        assert len(list(Trainer(settings, data).epochs())) == 1


def test_without_copies_training_has_the_original_clips_only(split):
    plain = make_trial_data(split).make_training_data(resolve(SMALL))
    assert np.array_equal(plain.train, split.train)
