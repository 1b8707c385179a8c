"""The training loop learns, is deterministic, and stops by patience."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from ser_platform.errors import UserError
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.cross_entropy import compute_class_weights, make_hard_label_loss
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.loop import Diverged, Trainer

QUICK = {
    "model.name": "bilstm",
    "model.hidden_size": 16,
    "train.epochs": 3,
    "train.batch_size": 8,
    "data.max_seconds": 0.6,
}


def trained(training_data, **changes) -> tuple[Trainer, list[EpochResult]]:
    settings = resolve(QUICK | {name.replace("__", "."): value for name, value in changes.items()})
    trainer = Trainer(settings, training_data(settings))
    return trainer, list(trainer.epochs())


def figures(results: list[EpochResult]) -> list[dict]:
    return [{name: value for name, value in asdict(result).items() if name != "seconds"} for result in results]


@pytest.mark.parametrize("name", ["bilstm", "attention_bilstm", "cnn_bilstm"])
def test_emotions_that_differ_in_pitch_are_learned(name, training_data):
    _, results = trained(training_data, model__name=name, model__width=8, train__epochs=8, optimizer__lr=0.01)
    assert results[-1].best_dev_uar > 0.8


def test_the_waveform_model_learns_too(training_data):
    how = {"model__name": "lite_cnn", "model__width": 8, "optimizer__lr": 0.01, "train__epochs": 10}
    _, results = trained(training_data, data__max_seconds=0.4, **how)
    assert results[-1].train_loss < results[0].train_loss


@pytest.mark.parametrize("name", ["bilstm", "cnn_bilstm"])
def test_the_same_seed_gives_the_same_run_bit_for_bit(name, training_data):
    how = {"model__name": name, "augment__masks": 2, "seed": 5}
    (first, results), (second, again) = (trained(training_data, **how) for _ in range(2))
    assert figures(results) == figures(again)
    for weights, same in zip(first.best_state.values(), second.best_state.values(), strict=True):
        assert torch.equal(weights, same)


def test_batches_of_one_row_are_refused_where_batch_normalisation_needs_two(training_data):
    how = {"model__name": "mlp", "features__pool": "mean_std", "train__batch_size": 1, "train__epochs": 1}
    with pytest.raises(UserError, match=r"train.batch_size 1 leaves a batch of one row .* model.norm to layer"):
        trained(training_data, **how)
    assert len(trained(training_data, model__norm="layer", **how)[1]) == 1


def test_another_seed_gives_another_run(training_data):
    losses = {trained(training_data, seed=seed)[1][-1].train_loss for seed in range(3)}
    assert len(losses) == 3


def test_earlier_runs_in_the_process_change_nothing(training_data):
    _, results = trained(training_data)
    torch.randn(100), np.random.rand(7)
    trained(training_data, seed=9)
    assert figures(trained(training_data)[1]) == figures(results)


def test_the_best_weights_are_a_copy(training_data):
    settings = resolve(QUICK | {"train.epochs": 6})
    trainer = Trainer(settings, training_data(settings))
    best, kept = 0, {}
    for result in trainer.epochs():
        if result.best_epoch != best:
            best, kept = result.best_epoch, {name: value.clone() for name, value in trainer.best_state.items()}
    for name, value in trainer.best_state.items():
        assert torch.equal(value, kept[name])
    assert trainer.best_state["classifier.1.weight"].data_ptr() != trainer.model.classifier[1].weight.data_ptr()


def test_best_dev_logits_match_the_best_weights(training_data):
    trainer, results = trained(training_data, train__epochs=6)
    trainer.restore_best()
    np.testing.assert_allclose(trainer.logits(trainer.data.dev), trainer.best_dev_logits, atol=1e-6)
    best = next(result for result in results if result.epoch == results[-1].best_epoch)
    assert best.dev_uar == results[-1].best_dev_uar == max(result.dev_uar for result in results)


def test_logits_are_in_the_order_of_the_given_clips(training_data):
    trainer, _ = trained(training_data)
    clips = np.array([40, 3, 27, 11])
    one_by_one = np.concatenate([trainer.logits(clips[row : row + 1]) for row in range(4)])
    np.testing.assert_allclose(trainer.logits(clips), one_by_one, atol=1e-5)


def test_training_stops_by_patience(training_data):
    settings = resolve(QUICK | {"train.epochs": 50, "train.patience": 2})
    trainer = Trainer(settings, training_data(settings))
    trainer.logits = lambda clips: np.zeros((len(clips), 3), np.float32)  # no epoch is better than the first
    assert [result.epoch for result in trainer.epochs()] == [1, 2, 3]


def test_a_run_cut_short_is_the_beginning_of_the_whole_run(training_data):
    settings = resolve(QUICK | {"train.epochs": 5})
    whole = figures(list(Trainer(settings, training_data(settings)).epochs()))
    cut = figures(list(Trainer(settings, training_data(settings)).epochs(stop_after=2)))
    assert cut == whole[:2]


def test_without_dev_all_epochs_run_and_the_last_weights_are_kept(training_data):
    settings = resolve(QUICK | {"train.patience": 1, "train.epochs": 4})
    trainer = Trainer(settings, replace(training_data(settings), dev=None))
    results = list(trainer.epochs())
    assert [result.best_epoch for result in results] == [1, 2, 3, 4]
    assert math.isnan(results[-1].dev_uar)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, trainer.best_state[name])


def test_the_normaliser_is_fitted_on_training_clips_only(training_data):
    settings = resolve(QUICK)
    data = training_data(settings)
    np.testing.assert_array_equal(
        Trainer(settings, data).normaliser.mean, data.features.fit_normaliser(data.train).mean
    )


class Poisoned:
    """Features with one NaN in every batch."""

    def __init__(self, features):
        self.features = features

    def __getattr__(self, name):
        return getattr(self.features, name)

    def batch(self, clips, normaliser, **how):
        features, lengths = self.features.batch(clips, normaliser)
        features[0, 0, 0] = np.nan
        return features, lengths


def test_a_loss_that_is_not_finite_stops_with_the_epoch(training_data):
    settings = resolve(QUICK)
    data = training_data(settings)
    trainer = Trainer(settings, replace(data, features=Poisoned(data.features)))
    with pytest.raises(Diverged, match=r"loss is nan in epoch 1; lower optimizer.lr \(0.002\)"):
        list(trainer.epochs())


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_every_schedule_lasts_to_the_last_epoch(schedule, training_data):
    _, results = trained(training_data, optimizer__schedule=schedule)
    assert len(results) == 3


def test_class_weights_are_inverse_to_the_counts_with_mean_one_over_the_clips():
    # 3 clips of class 0 and 1 of class 1: 4 / (2 x 3) and 4 / (2 x 1)
    torch.testing.assert_close(compute_class_weights(np.array([0, 0, 0, 1]), 2), torch.tensor([2 / 3, 2.0]))


def test_equal_classes_weigh_one():
    assert compute_class_weights(np.array([0, 1, 2]), 3).tolist() == [1, 1, 1]


def test_class_weights_can_be_disabled(training_data):
    seen = []

    def make_loss(settings, weights):
        seen.append(weights)
        return make_hard_label_loss(settings, weights)

    for weighted in (True, False):
        settings = resolve(QUICK | {"train.class_weights": weighted})
        Trainer(settings, training_data(settings), make_loss)
    assert seen[0] is not None and seen[1] is None


def test_a_student_learns_from_its_teacher_without_labels(training_data):
    from ser_platform.distillation.student_loss import make_student_loss

    settings = resolve(QUICK | {"distill.alpha": 1.0, "train.epochs": 8, "optimizer.lr": 0.01})
    data: TrainingData = training_data(settings)
    teacher = np.full((len(data.targets), 3), -3, np.float32)
    teacher[np.arange(len(teacher)), data.targets] = 3
    wrong = np.where(np.isin(np.arange(len(teacher)), data.train), 0, data.targets)  # training labels are all class 0
    student = Trainer(settings, replace(data, targets=wrong, teacher_logits=teacher), make_student_loss)
    assert list(student.epochs())[-1].best_dev_uar > 0.8


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_of_a_few_steps_completes(schedule, epochs, training_data):
    settings = resolve(
        {"train.epochs": epochs, "train.batch_size": 4096, "optimizer.schedule": schedule, "model.width": 4}
    )
    assert len(list(Trainer(settings, training_data(settings)).epochs())) == epochs
