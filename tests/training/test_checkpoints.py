"""A resumed training equals an uninterrupted training; checkpoints contain only tensors and JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.errors import UserError, WorkFailed
from ser_platform.settings import resolve
from ser_platform.training.checkpoints import CHECKPOINT_FILE, Checkpoint, read_checkpoint, write_checkpoint
from ser_platform.training.loop import Trainer
from ser_platform.training.state_serialisation import results_as_json
from tests.conftest import require_bf16_lstm

QUICK = {
    "model.name": "bilstm",
    "model.hidden_size": 8,
    "model.subsample": 4,
    "model.dropout": 0.3,
    "train.epochs": 5,
    "train.batch_size": 8,
    "data.max_seconds": 0.5,
    "data.crop": "random",
    "augment.masks": 2,
    "augment.mixup": 0.4,
    "optimizer.schedule": "one_cycle",
}
RUNS = {
    "recurrent": {},
    "samples with noise": {
        "model.name": "lite_cnn",
        "model.width": 4,
        "augment.noise_snr_db": 10.0,
        "data.max_seconds": 0.2,
        "optimizer.schedule": "warmup_cosine",
    },
    "batch statistics": {"model.name": "cnn_bilstm", "model.width": 4, "optimizer.schedule": "cosine"},
    "balanced parts in bf16": {
        "train.sampling": "balanced",
        "train.accumulate": 2,
        "train.precision": "bf16",
        "optimizer.schedule": "constant",
    },
    "a teacher": {"distill.alpha": 0.5},
}


def trainer_of(training_data, **changes) -> Trainer:
    settings = resolve(QUICK | changes)
    if settings.train.precision == "bf16":
        require_bf16_lstm()
    data = training_data(settings)
    if settings.distill.alpha:
        teacher = np.random.default_rng(0).normal(0, 2, (len(data.targets), 3)).astype(np.float32)
        data = replace(data, teacher_logits=teacher)
    return Trainer(settings, data, make_student_loss)


def figures(results) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in results_as_json(results)]


def outcome(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return weights, best weights and best dev logits."""
    return {
        **{f"model.{name}": value.clone() for name, value in trainer.model.state_dict().items()},
        **{f"best.{name}": value for name, value in trainer.best_state.items()},
        "best_dev_logits": torch.from_numpy(trainer.best_dev_logits),
    }


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("epoch", [1, 4])
def test_a_resumed_training_equals_an_uninterrupted_training_bit_for_bit(run, epoch, training_data, tmp_path):
    whole = trainer_of(training_data, **RUNS[run])
    results = list(whole.epochs())

    begun = trainer_of(training_data, **RUNS[run])
    for result in begun.epochs():
        if result.epoch == epoch:
            write_checkpoint(begun.make_checkpoint(), tmp_path)
            break
    torch.randn(7), np.random.rand(7)  # another process has drawn other numbers
    resumed = trainer_of(training_data, **RUNS[run])
    resumed.resume(read_checkpoint(tmp_path))
    to_come = list(resumed.epochs())

    assert [result.epoch for result in to_come] == list(range(epoch + 1, 6))
    assert figures(resumed.results) == figures(results)
    expected, found = outcome(whole), outcome(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_trainer_resumes_from_its_own_checkpoint(training_data):
    trainer = trainer_of(training_data)
    epochs = trainer.epochs()
    next(epochs), next(epochs)
    kept = trainer.make_checkpoint()
    ended = figures([*trainer.results, *epochs])
    trainer.resume(kept)
    list(trainer.epochs())
    assert figures(trainer.results) == ended


def test_a_checkpoint_does_not_change_with_the_steps_after_it(training_data):
    trainer = trainer_of(training_data)
    epochs = trainer.epochs()
    next(epochs)
    kept = trainer.make_checkpoint()
    before = {name: value.clone() for name, value in kept.tensors.items()}
    next(epochs)
    assert all(torch.equal(kept.tensors[name], value) for name, value in before.items())


def test_patience_continues_after_a_resume(training_data):
    changes = {"train.patience": 2, "train.epochs": 50}
    trainer = trainer_of(training_data, **changes)
    trainer.logits = lambda clips: np.zeros((len(clips), 3), np.float32)  # no epoch is better than the first
    next(trainer.epochs())
    kept = trainer.make_checkpoint()
    list(trainer.epochs())
    ended = trainer.make_checkpoint()

    resumed = trainer_of(training_data, **changes)
    resumed.logits = trainer.logits
    resumed.resume(kept)
    assert [result.epoch for result in resumed.epochs()] == [2, 3]
    resumed.resume(ended)
    assert list(resumed.epochs()) == []


def test_nan_metrics_are_restored(training_data, tmp_path):
    trainer = trainer_of(training_data)
    trainer.data = replace(trainer.data, dev=None)
    next(trainer.epochs())
    write_checkpoint(trainer.make_checkpoint(), tmp_path)
    resumed = trainer_of(training_data)
    resumed.data = trainer.data
    resumed.resume(read_checkpoint(tmp_path))
    assert np.isnan(resumed.results[0].dev_uar) and resumed.best_dev_logits is None


def test_other_settings_are_refused_by_name(training_data):
    kept = trainer_of(training_data).make_checkpoint()
    with pytest.raises(UserError, match=r"other settings: train.epochs 5 instead of 9; remove it to start again$"):
        trainer_of(training_data, **{"train.epochs": 9}).resume(kept)


def test_other_clips_are_refused(training_data):
    trainer = trainer_of(training_data)
    kept = trainer.make_checkpoint()
    trainer.data = replace(trainer.data, train=trainer.data.train[1:])
    with pytest.raises(UserError, match="other training or dev clips"):
        trainer.resume(kept)


# Files


def some(epoch: int = 1) -> Checkpoint:
    return Checkpoint({"model.weight": torch.full((3,), float(epoch))}, {"results": [{}] * epoch})


def test_a_folder_contains_only_safetensors_and_json(training_data, tmp_path):
    trainer = trainer_of(training_data)
    next(trainer.epochs())
    write_checkpoint(trainer.make_checkpoint(), tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    content = json.loads((tmp_path / CHECKPOINT_FILE).read_text(), parse_constant=lambda word: pytest.fail(word))
    assert len(content["description"]["results"]) == 1


def test_a_later_checkpoint_replaces_the_previous(tmp_path):
    write_checkpoint(some(1), tmp_path)
    write_checkpoint(some(2), tmp_path)
    assert read_checkpoint(tmp_path).epoch == 2
    assert read_checkpoint(tmp_path).tensors["model.weight"].tolist() == [2, 2, 2]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("at", ["sha256_of", "write_json"])
def test_an_interrupted_write_keeps_the_previous_checkpoint(at, tmp_path, monkeypatch):
    write_checkpoint(some(1), tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"ser_platform.training.checkpoints.{at}", killed)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(some(2), tmp_path)
    assert read_checkpoint(tmp_path).epoch == 1
    write_checkpoint(some(3), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # the leftover file is removed


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_changed_byte_is_refused(suffix, tmp_path):
    write_checkpoint(some(), tmp_path)
    path = next(tmp_path.glob(f"*{suffix}"))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(WorkFailed, match=rf"{path.name}.* damaged"):
        read_checkpoint(tmp_path)


def test_missing_tensors_are_refused(tmp_path):
    write_checkpoint(some(), tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(WorkFailed, match=r"safetensors is missing or damaged"):
        read_checkpoint(tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(WorkFailed, match=r"contains no checkpoint"):
        read_checkpoint(tmp_path / "none")
