"""Out-of-memory errors name the settings to lower; `train.auto_batch` finds a number of parts that fits."""

import pytest
import torch

from ser_platform.errors import WorkFailed
from ser_platform.settings import resolve
from ser_platform.training.loop import Trainer
from ser_platform.training.out_of_memory import OutOfMemory, is_out_of_memory

QUICK = {
    "model.name": "bilstm",
    "model.hidden_size": 8,
    "model.subsample": 4,
    "train.epochs": 2,
    "train.batch_size": 9,
    "data.max_seconds": 0.6,
    "augment.masks": 1,
}
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB."
CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


def trainer_of(training_data, most_clips: int, error: Exception, **changes) -> Trainer:
    """Return a trainer whose model raises `error` for more than `most_clips` clips."""
    settings = resolve(QUICK | changes)
    trainer = Trainer(settings, training_data(settings))

    def refuse(module, arguments):
        if module.training and len(arguments[0]) > most_clips:
            raise error

    trainer.model.encoder.register_forward_pre_hook(refuse)
    return trainer


def losses(trainer: Trainer) -> list[float]:
    return [result.train_loss for result in trainer.epochs()]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(CUDA), RuntimeError(CPU), MemoryError()])
def test_a_batch_that_does_not_fit_is_reported_with_its_size_and_settings(error, training_data):
    with pytest.raises(OutOfMemory) as failure:
        losses(trainer_of(training_data, 5, error))
    message = str(failure.value)
    assert "out of memory on cpu with a batch of 9 clips, the longest of 0.6 s, computed at once" in message
    for setting in ("train.accumulate (1)", "train.auto_batch", "train.batch_size (9)", "data.max_seconds (0.6)"):
        assert setting in message
    assert isinstance(failure.value, WorkFailed)


def test_other_errors_are_not_changed(training_data):
    with pytest.raises(RuntimeError, match="shapes") as failure:
        losses(trainer_of(training_data, 5, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    assert not is_out_of_memory(failure.value)


@pytest.mark.parametrize(("most_clips", "parts"), [(9, 1), (8, 2), (5, 2), (4, 4), (3, 4), (1, 9)])
def test_auto_batch_finds_the_parts_that_fit(most_clips, parts, training_data):
    found = trainer_of(training_data, most_clips, torch.OutOfMemoryError(CUDA), **{"train.auto_batch": True})
    assert len(losses(found)) == 2
    assert found.accumulate == parts


def test_auto_batch_equals_the_same_number_of_parts_by_setting(training_data):
    found = trainer_of(training_data, 6, torch.OutOfMemoryError(CUDA), **{"train.auto_batch": True})
    found_losses = losses(found)
    fixed = trainer_of(training_data, 9, torch.OutOfMemoryError(CUDA), **{"train.accumulate": 2})
    assert found_losses == losses(fixed)
    for own, same in zip(found.model.parameters(), fixed.model.parameters(), strict=True):
        assert torch.equal(own, same)


def test_an_evaluation_that_does_not_fit_is_reported_and_parts_make_it_smaller(training_data):
    def refuse(module, arguments):
        if not module.training and len(arguments[0]) > 4:
            raise torch.OutOfMemoryError(CUDA)

    trainer = trainer_of(training_data, 9, torch.OutOfMemoryError(CUDA))
    trainer.model.encoder.register_forward_pre_hook(refuse)
    with pytest.raises(OutOfMemory, match="with a batch of 18 clips, .*, computed at once; raise train.accumulate"):
        losses(trainer)
    trainer = trainer_of(training_data, 9, torch.OutOfMemoryError(CUDA), **{"train.accumulate": 4})
    trainer.model.encoder.register_forward_pre_hook(refuse)
    assert len(losses(trainer)) == 2


def test_auto_batch_fails_where_no_single_clip_fits(training_data):
    trainer = trainer_of(training_data, 0, torch.OutOfMemoryError(CUDA), **{"train.auto_batch": True})
    with pytest.raises(OutOfMemory, match="computed in 9 parts; lower train.batch_size"):
        losses(trainer)


def test_a_resumed_training_keeps_the_parts_that_were_found(training_data):
    changes = {"train.auto_batch": True}
    begun = trainer_of(training_data, 6, torch.OutOfMemoryError(CUDA), **changes)
    next(begun.epochs())
    resumed = trainer_of(training_data, 12, torch.OutOfMemoryError(CUDA), **changes)
    resumed.resume(begun.make_checkpoint())
    assert [result.epoch for result in resumed.epochs()] == [2]
    assert resumed.accumulate == 2
