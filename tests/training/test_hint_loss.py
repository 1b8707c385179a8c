"""Hints: the loss, its decrease in training, and bundles without the hint."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ser_platform.corpora.manifest import Manifest
from ser_platform.distillation.hint_targets import compute_encoder_embeddings, require_hint_teacher
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.errors import UserError
from ser_platform.features.augmented_clips import prepare_augmented_clips
from ser_platform.features.store.feature_store import open_family, prepare_features
from ser_platform.models import CLASSICAL, MODELS, PRETRAINED
from ser_platform.settings import resolve
from ser_platform.training.batches.batch import Batch, TrainingData
from ser_platform.training.batches.batch_augmentation import mixup
from ser_platform.training.configuration import feature_view, pin_settings, refuse_contradictions
from ser_platform.training.hint_loss import Hint
from ser_platform.training.loop import Trainer
from ser_platform.tuning.execution.fit_job import TrialData
from ser_platform.tuning.search_space.default_settings import choose_defaults

HINTED = {"distill.alpha": 0.5, "distill.hint": "mse", "train.epochs": 3, "train.batch_size": 8}
STUDENTS = sorted(set(MODELS) - set(CLASSICAL) - set(PRETRAINED))


def doubling_hint(embeddings: torch.Tensor, how: str, weight: float = 1.0) -> Hint:
    """Return a hint whose map doubles a model's embedding."""
    hint = Hint(2, embeddings, how, weight)
    with torch.no_grad():
        hint.projection.weight.copy_(2 * torch.eye(2))
        hint.projection.bias.zero_()
    return hint


def batch_of(features: torch.Tensor, hints: torch.Tensor) -> Batch:
    ones = torch.ones(len(features), dtype=torch.int64)
    return Batch(features, ones, 0 * ones, None, teacher_embeddings=hints)


def test_the_losses_are_those_computed_by_hand():
    teachers = torch.tensor([[1.0, 10.0], [3.0, 30.0]])  # mean (2, 20), deviation (1, 10): scaled (-1, -1), (1, 1)
    students = torch.tensor([[0.5, 0.0], [0.0, 2.0]])  # mapped: (1, 0), (0, 4)
    hint = doubling_hint(teachers, "mse", weight=3.0)
    # ((1+1)^2 + 1^2) / 2 = 2.5; (1 + 9) / 2 = 5
    assert hint.loss(students, batch_of(students, teachers)).item() == pytest.approx(3 * (2.5 + 5) / 2)
    hint = doubling_hint(teachers, "cosine")
    # cosines -1 / sqrt 2 and 1 / sqrt 2
    assert hint.loss(students, batch_of(students, teachers)).item() == pytest.approx(1.0)


def test_the_losses_of_parts_add_up():
    teachers, students = torch.randn(6, 2), torch.randn(6, 2)
    hint = doubling_hint(teachers, "cosine")
    whole = replace(batch_of(students, teachers), features=students[:, None])
    expected, found = hint.loss(students, whole).item(), 0.0
    for rows in (np.array([0, 4]), np.array([1, 2, 3, 5])):
        part = whole.select_rows(rows)
        found += hint.loss(part.features[:, 0], part).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_constant_column_has_a_finite_loss():
    teachers = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    hint = doubling_hint(teachers, "mse")
    assert hint.loss(teachers, batch_of(teachers, teachers)).isfinite()


def test_mixup_mixes_the_hints_as_it_mixes_the_clips():
    features = torch.randn(4, 1, 2)
    mixed = mixup(batch_of(features, features[:, 0] * 7), 0.5, 3, 2.0, np.random.default_rng(0))
    torch.testing.assert_close(mixed.teacher_embeddings, mixed.features[:, 0] * 7)


@pytest.fixture
def hinted(training_data):
    """Return a function from settings to data with teacher logits and embeddings that encode the emotion."""

    def data(settings) -> TrainingData:
        found = training_data(settings)
        rng = np.random.default_rng(0)
        embeddings = rng.normal(size=(len(found.targets), 5)).astype(np.float32)
        embeddings[:, 0] += 5 * found.targets
        logits = 3 * np.eye(len(found.labels), dtype=np.float32)[found.targets]
        return replace(found, teacher_logits=logits, teacher_embeddings=embeddings)

    return data


@pytest.mark.parametrize("name", STUDENTS)
def test_every_model_trained_by_gradients_accepts_a_hint(name, hinted):
    named = {"model.name": name}
    settings = resolve(choose_defaults("student", named) | named | HINTED | {"features.chunk": 0, "train.epochs": 1})
    try:
        refuse_contradictions(settings)
    except UserError:
        pytest.skip(f"{name} uses chunks")
    trainer = Trainer(settings, hinted(settings), make_student_loss)
    before = trainer.hint.projection.weight.detach().clone()
    (result,) = trainer.epochs()
    assert np.isfinite(result.train_loss)
    assert not torch.equal(before, trainer.hint.projection.weight)


def test_the_hint_lowers_the_loss_and_is_not_in_the_model(hinted, training_data):
    settings = resolve({"model.name": "bilstm", **HINTED, "train.epochs": 12, "train.patience": 12})
    trainer = Trainer(settings, hinted(settings), make_student_loss)
    losses = [result.train_loss for result in trainer.epochs()]
    assert losses[-1] < 0.8 * losses[0]
    plain = Trainer(settings.with_overrides({"distill.hint": "off"}), hinted(settings), make_student_loss)
    assert trainer.best_state.keys() == plain.best_state.keys()


def test_a_weight_of_zero_changes_no_prediction(hinted):
    settings = resolve({"model.name": "lite_cnn", **HINTED, "model.dropout": 0.0, "distill.hint_weight": 0.0})
    runs = []
    for how in ("mse", "off"):
        data = hinted(settings)
        trainer = Trainer(settings.with_overrides({"distill.hint": how}), data, make_student_loss)
        list(trainer.epochs())
        runs.append(trainer.logits(data.train))
    np.testing.assert_allclose(*runs, rtol=1e-5, atol=1e-6)


def test_a_training_with_a_hint_resumes_from_its_checkpoint(hinted):
    settings = resolve({"model.name": "bilstm", **HINTED})
    whole = Trainer(settings, hinted(settings), make_student_loss)
    expected = [result.train_loss for result in whole.epochs()]
    begun = Trainer(settings, hinted(settings), make_student_loss)
    next(begun.epochs())
    kept = begun.make_checkpoint()
    resumed = Trainer(settings, hinted(settings), make_student_loss)
    resumed.resume(kept)
    assert [result.train_loss for result in resumed.epochs()] == expected[1:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distill.hint": "mse"}, "raise distill.alpha above 0"),
        ({"distill.hint": "mse", "distill.alpha": 0.5, "features.chunk": 64}, "a hint is of a whole clip"),
    ],
)
def test_settings_without_a_valid_hint_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        refuse_contradictions(resolve({"model.name": "lite_cnn"} | settings))


def test_teachers_without_a_frozen_encoder_are_refused_by_name():
    with pytest.raises(UserError, match="ser-teacher v3 has model.name bilstm"):
        require_hint_teacher(resolve({"model.name": "bilstm"}), "ser-teacher v3")
    with pytest.raises(UserError, match="model.tuning lora"):
        require_hint_teacher(resolve({"model.name": "pretrained", "model.tuning": "lora"}), "a")
    require_hint_teacher(resolve({"model.name": "pretrained"}), "a")


@pytest.mark.usefixtures("pretrained")
def test_embeddings_are_the_mean_loud_states_of_the_teachers_layers(tones: Manifest):
    named = {"model.name": "pretrained", "model.backbone": "tiny-whisper", "features.normalise": "speaker"}
    settings = pin_settings(resolve(choose_defaults("teacher", named) | named))
    (family,) = feature_view(settings).required_families
    prepare_features(tones, (family,), dtype=settings.features.dtype)
    hashes = tuple(tones.column("audio_sha256"))
    stored = open_family(family, hashes, settings.features.dtype)
    found = compute_encoder_embeddings(settings, hashes)
    assert found.shape == (len(tones), 32)
    blocks = np.asarray(stored.read_clip(3), dtype=np.float32).reshape(4, 3, 32)  # STATISTICS_BLOCKS; 3 states
    np.testing.assert_allclose(found[3], blocks[2, 1], rtol=1e-3, atol=1e-3)  # middle: neither first nor last


def test_a_copy_has_its_own_hint(split):
    settings = resolve(
        {"model.name": "lite_cnn", "augment.copies": 1, "augment.recipe": "threefold_speed"}
        | {"distill.alpha": 0.5, "distill.hint": "mse"}
    )
    copies = prepare_augmented_clips(split, [("threefold_speed", 2)], feature_view(settings).required_families)
    n = len(split.manifest)
    numbered = np.arange(n + len(copies.hashes), dtype=np.float32)[:, None]
    outputs = {"out_of_fold": TeacherOutputs(numbered[:n], numbered[n:], numbered[:0])}
    task = TrialData.from_split(split, split.manifest.labels, outputs, copies, hints=numbered)
    data = task.make_training_data(settings)
    of_copies = data.teacher_embeddings[data.train[data.train >= n], 0].astype(int) - n
    np.testing.assert_array_equal(of_copies, copies.select_copies("threefold_speed", 1, split.train))
    np.testing.assert_array_equal(data.teacher_embeddings[split.train, 0], split.train)
