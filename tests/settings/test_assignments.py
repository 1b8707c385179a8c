"""The value of `--set key=value` is YAML and is checked."""

import pytest

from ser_platform.errors import UserError
from ser_platform.settings import parse_assignments


def test_assignments_are_read_as_yaml():
    words = ["features.sets=[zcr, log_mel]", "train.class_weights=false", "optimizer.lr=1e-4", "seed=7"]
    words += ["distill.hint=off", "model.backbone=no"]  # words in YAML 1.2, false in YAML 1.1
    assert parse_assignments(words) == {
        "features.sets": ("log_mel", "zcr"),
        "train.class_weights": False,
        "optimizer.lr": 1e-4,
        "seed": 7,
        "distill.hint": "off",
        "model.backbone": "no",
    }


def test_the_last_of_two_assignments_to_one_setting_wins():
    assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=3", r"unknown setting 'epochs'; did you mean train\.epochs\? `ser schema settings`"),
        ("train.epochs", "--set takes key=value; got 'train.epochs'"),
        ("train.epochs=", "whole number; got None"),
        ("features.sets=[log_mel", "features.sets.* not YAML"),
        ("features.pool=max", "unknown features.pool 'max'; choose from: none, mean"),
    ],
)
def test_an_invalid_assignment_is_refused(word, message):
    with pytest.raises(UserError, match=message) as refusal:
        parse_assignments([word], {"features.pool": ("none", "mean")})
    assert "\n" not in str(refusal.value)
