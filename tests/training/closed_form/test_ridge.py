"""Ridge regression on a frozen encoder: solution, logits and refused settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split, split_by_speaker
from ser_platform.errors import UserError
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.settings import Settings, resolve
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.closed_form.ridge import WEIGHT, EncoderRidgeTrainer
from ser_platform.training.configuration import feature_view, pin_settings, refuse_contradictions
from ser_platform.training.pretrained_settings import default_pretrained_settings
from ser_platform.training.trainers import make_trainer

pytestmark = pytest.mark.usefixtures("pretrained")
NAMED = {"model.name": "pretrained", "model.backbone": "tiny-whisper"}


def settings_of(**changes: object) -> Settings:
    named = NAMED | {"features.dtype": "float32"} | changes
    return pin_settings(resolve(default_pretrained_settings(named) | named))


@pytest.fixture
def data(tones: Manifest) -> TrainingData:
    split: Split = split_by_speaker(tones, 0)
    view = feature_view(settings_of())
    prepare_features(tones, view.required_families)
    features = StoredViewedClips(view, tuple(tones.column("audio_sha256")), tuple(tones.column("speaker")))
    return TrainingData(features, tones.encode_targets(tones.labels), tones.labels, split.train, split.dev)


def test_ridge_is_the_default_of_a_frozen_encoder(data):
    trainer = make_trainer(settings_of(), data)
    assert isinstance(trainer, EncoderRidgeTrainer)
    (result,) = trainer.epochs()
    assert result.dev_uar > 0.6  # three pitches; chance is a third
    np.testing.assert_array_equal(trainer.logits(data.dev), trainer.best_dev_logits)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_weights_solve_the_weighted_least_squares(data, penalty):
    uneven = replace(data, train=data.train[:-4])
    trainer = make_trainer(settings_of(**{"model.ridge": penalty}), uneven)
    list(trainer.epochs())
    weight = trainer.best_state[WEIGHT].double().numpy()
    model = trainer.model
    rows = torch.from_numpy(trainer.data.features.batch(uneven.train, trainer.normaliser)[0])
    pooled = model.pool(rows, torch.ones(len(rows), dtype=torch.int64)).double().numpy()
    targets = data.targets[uneven.train]
    counts = np.bincount(targets)
    assert counts.min() < counts.max()
    classes = np.eye(3)[targets] - 1 / 3
    each = len(targets) / (3 * counts[targets])
    # The gradient of sum w |y - Wx|^2 + penalty D |W|^2 is zero at the solution, of which the logits are a multiple.
    normal = (pooled * each[:, None]).T @ pooled + penalty * pooled.shape[1] * np.eye(pooled.shape[1])
    solution = np.linalg.solve(normal, (pooled * each[:, None]).T @ classes).T
    ratio = weight / solution
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=2e-2)
    assert np.median(ratio) > 1  # scores of least squares are too close together for logits


def test_copies_do_not_weaken_the_penalty(data):
    twice = replace(data, train=np.concatenate([data.train, data.train]))
    once, doubled = (
        make_trainer(settings_of(**{"augment.copies": copies}), clips) for copies, clips in ((0, data), (1, twice))
    )
    list(once.epochs())
    list(doubled.epochs())
    first, second = (trainer.best_state[WEIGHT].numpy() for trainer in (once, doubled))
    np.testing.assert_allclose(second / np.linalg.norm(second), first / np.linalg.norm(first), atol=1e-4)


def test_held_out_training_speakers_scale_the_logits(data):
    """On dev clips the mean probability of the prediction is close to the accuracy."""
    trainer = make_trainer(settings_of(), data)
    list(trainer.epochs())
    probabilities = torch.from_numpy(trainer.best_dev_logits).softmax(dim=1).numpy()
    right = probabilities.argmax(axis=1) == data.targets[data.dev]
    assert abs(probabilities.max(axis=1).mean() - right.mean()) < 0.25


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.tuning", "full"),
        ("model.pooling", "attention"),
        ("model.mixing", "weighted"),
        ("model.adversary", 0.1),
        ("distill.alpha", 0.5),
        ("augment.mixup", 0.2),
    ],
)
def test_settings_that_need_gradient_steps_are_refused(setting, value):
    with pytest.raises(UserError, match=setting.replace(".", r"\.")):
        refuse_contradictions(settings_of(**{"model.classifier": "ridge", setting: value}))


@pytest.mark.parametrize(
    "overrides",
    [{"model.head_size": 16}, {"model.dropout": 0.1}, {"model.pooling": "attention"}, {"model.tuning": "top"}],
)
def test_settings_that_need_gradient_steps_select_the_mlp(overrides):
    assert default_pretrained_settings(NAMED | overrides)["model.classifier"] == "mlp"
    assert default_pretrained_settings(NAMED, needs_gradients=True)["model.classifier"] == "mlp"
    assert default_pretrained_settings({"model.name": "gru"}, needs_gradients=True) == {}
