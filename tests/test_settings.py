"""Every setting is checked where it enters, and a refusal names what is valid."""

import json
from pathlib import Path

import pytest

from ser_platform import settings
from ser_platform.errors import UnknownChoice, UserError
from ser_platform.settings import SETTINGS, as_json, parse_assignments, resolve


def test_without_overrides_every_setting_has_its_default():
    assert resolve({}) == {name: setting.default for name, setting in SETTINGS.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_is_a_valid_value_and_explained(name):
    setting = SETTINGS[name]
    assert setting.checked(name, setting.default) == setting.default
    assert setting.help


@pytest.mark.parametrize("name", SETTINGS)
def test_a_mapping_is_no_value_of_any_setting(name):
    with pytest.raises(UserError):
        SETTINGS[name].checked(name, {"a": 1})


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.low is not None])
def test_both_ends_of_a_range_are_valid_and_what_lies_beyond_is_not(name):
    setting = SETTINGS[name]
    assert setting.checked(name, setting.low) == setting.low
    assert setting.checked(name, setting.high) == setting.high
    for beyond in (setting.low - 1, setting.high + 1):
        with pytest.raises(UserError, match=rf"{name} must be at least .* and at most .*; got"):
            setting.checked(name, beyond)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.epochs", 2.5, "train.epochs must be a whole number; got 2.5"),
        ("train.epochs", True, "whole number"),
        ("train.epochs", "many", "whole number"),
        ("optimizer.lr", None, "must be a number"),
        ("optimizer.lr", float("nan"), "must be a number"),
        ("optimizer.lr", float("inf"), "must be a number"),
        ("train.class_weights", 1, "must be true or false; got 1"),
        ("data.crop", "tail", "unknown data.crop 'tail'; choose from: head, centre"),
        ("features.sets", [], "at least one of log_mel, mfcc, zcr, rms"),
        ("features.sets", ["log_mel", "timbre"], "'timbre'; choose from: log_mel, mfcc"),
    ],
)
def test_a_wrong_value_is_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        resolve({name: value})


def test_a_value_takes_the_type_of_the_default():
    resolved = resolve({"train.epochs": 3.0, "optimizer.lr": "1e-3", "distill.alpha": 0})  # YAML reads 1e-3 as text
    assert [resolved[name] for name in ("train.epochs", "optimizer.lr", "distill.alpha")] == [3, 0.001, 0.0]
    assert isinstance(resolved["train.epochs"], int) and isinstance(resolved["distill.alpha"], float)


def test_a_set_has_one_order_and_no_repeats():
    assert resolve({"features.sets": ["zcr", "log_mel", "zcr"]})["features.sets"] == ("log_mel", "zcr")
    assert resolve({"features.sets": "mfcc"})["features.sets"] == ("mfcc",)


def test_an_unknown_setting_is_refused_naming_the_valid_ones():
    with pytest.raises(UnknownChoice, match=r"unknown setting 'lr'; choose from: .*optimizer\.lr"):
        resolve({"lr": 0.1})


def test_assignments_are_read_as_yaml():
    words = ["features.sets=[zcr, log_mel]", "train.class_weights=false", "optimizer.lr=1e-4", "seed=7"]
    assert parse_assignments(words) == {
        "features.sets": ("log_mel", "zcr"),
        "train.class_weights": False,
        "optimizer.lr": 1e-4,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=3", r"unknown setting 'epochs'; choose from: .*train\.epochs"),
        ("train.epochs", "--set takes key=value; got 'train.epochs'"),
        ("train.epochs=", "whole number; got None"),
        ("features.sets=[log_mel", "features.sets.* not YAML"),
    ],
)
def test_an_assignment_that_means_nothing_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        parse_assignments([word])


def test_settings_survive_json():
    resolved = resolve({"features.sets": ["log_mel", "rms"]})
    assert resolve(json.loads(json.dumps(as_json(resolved)))) == resolved


def test_folders_come_from_the_environment_when_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("SER_HOME", str(tmp_path / "here"))
    assert settings.home() == tmp_path / "here"
    monkeypatch.delenv("SER_CORPORA", raising=False)
    assert settings.corpora_folder() is None
    monkeypatch.setenv("SER_CORPORA", "~/speech")
    assert settings.corpora_folder() == Path("~/speech").expanduser()
    assert settings.runs_folder() == tmp_path / "runs"
