"""A setting without an effect in a configuration is known as such; the trainers show that it has none."""

import pytest

from ser_platform.models import MODELS
from ser_platform.settings import SETTINGS
from ser_platform.training.used_settings import is_used

RIDGE = {"model.name": "ridge", "features.sets": ("mfcc",), "features.pool": "mean_std", "distill.alpha": 0.5}
NETWORK = {"model.name": "separable_cnn", "distill.alpha": 0.5}


@pytest.mark.parametrize(
    "name",
    [
        *("distill.temperature", "distill.hint", "model.dropout", "model.hidden_size", "optimizer.lr"),
        *("optimizer.weight_decay", "train.batch_size", "train.epochs", "augment.masks"),
    ],
)
def test_ridge_uses_no_setting_of_gradient_descent(name: str) -> None:
    assert not is_used(name, RIDGE)


def test_each_kind_of_model_uses_its_own_settings() -> None:
    for name in ("model.ridge", "model.relevance", "distill.alpha", "features.n_mfcc", "data.trim_db"):
        assert is_used(name, RIDGE), name
    for name in ("model.width", "model.dropout", "optimizer.lr", "distill.temperature", "augment.masks"):
        assert is_used(name, NETWORK), name
    assert not is_used("model.ridge", NETWORK) and not is_used("features.n_mfcc", NETWORK)
    assert is_used("model.c", {"model.name": "svm_linear"}) and not is_used("model.c", NETWORK)
    assert is_used("optimizer.lr", {"model.name": "mlp_sklearn"})
    encoder = {"model.name": "pretrained", "model.classifier": "ridge"}
    assert is_used("model.ridge", encoder) and not is_used("model.head_size", encoder)
    assert not is_used("model.ridge", encoder | {"model.classifier": "mlp"})


def test_a_student_without_a_teacher_uses_no_setting_of_distillation() -> None:
    alone = {"model.name": "bilstm", "distill.alpha": 0.0}
    used = [name for name in SETTINGS if name.startswith("distill.") and is_used(name, alone)]
    assert used == ["distill.alpha"]
    assert not is_used("distill.temperature", NETWORK | {"distill.loss": "mse"})


def test_a_feature_set_of_one_row_uses_no_part_of_a_clip() -> None:
    rows = RIDGE | {"features.sets": ("mel_functionals",)}
    assert not any(is_used(name, rows) for name in ("data.trim_db", "data.max_seconds", "features.pool"))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_uses_its_name_and_the_settings_that_build_it(name: str) -> None:
    known = {"model.name": name, "model.classifier": "mlp", "model.tuning": "full"}
    built = [f"model.{field}" for field in ("name", *MODELS[name].sizes, *MODELS[name].settings)]
    unused = [setting for setting in built if not is_used(setting, known)]
    assert set(unused) <= {"model.tuned_layers", "model.lora_rank"}  # of other values of model.tuning
