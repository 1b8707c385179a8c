"""Settings are typed, their stored form stays the same, and every value is checked on input."""

import json
import pickle

import pytest
from pydantic import ValidationError

from ser_platform.errors import UnknownChoice, UnknownSetting, UserError
from ser_platform.files import digest_of
from ser_platform.settings import SETTINGS, Settings, as_json, check, resolve

REGISTRIES = {"features.sets": ("log_mel", "mfcc", "zcr", "rms"), "features.pool": ("none", "mean")}
NUMBERS = [name for name, setting in SETTINGS.items() if setting.is_numeric]


def test_without_overrides_every_setting_has_its_default():
    assert resolve({}) == Settings()
    assert {name: resolve({}).value(name) for name in SETTINGS} == {
        name: setting.default for name, setting in SETTINGS.items()
    }


def test_settings_are_read_by_group_and_field():
    settings = resolve({"train.epochs": 3, "model.name": "gru", "seed": 7})
    assert (settings.train.epochs, settings.model.name, settings.seed) == (3, "gru", 7)
    assert settings.optimizer.lr == SETTINGS["optimizer.lr"].default


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_is_valid_and_every_setting_has_a_description(name):
    setting = SETTINGS[name]
    assert check(name, setting.default) == setting.default
    assert setting.description


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_refuses_mappings_bytes_and_lists_of_other_things_than_words(name):
    for value in ({"a": 1}, None, b"bytes", [1], [["log_mel"]]):
        with pytest.raises(UserError, match=name):
            check(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_both_ends_of_a_range_are_valid_and_numbers_beyond_are_refused(name):
    setting = SETTINGS[name]
    assert check(name, setting.low) == setting.low
    assert check(name, setting.high) == setting.high
    for beyond in (setting.low - 1, setting.high + 1):
        with pytest.raises(UserError, match=rf"{name} must be at least .* and at most .*; got"):
            check(name, beyond)


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.choices])
def test_every_choice_is_valid_and_another_word_is_refused_with_the_choices(name):
    for choice in SETTINGS[name].choices:
        assert check(name, choice) == choice
    with pytest.raises(UnknownChoice, match=f"unknown {name} 'blue'; choose from: {SETTINGS[name].choices[0]}, "):
        check(name, "blue")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.epochs", 2.5, "train.epochs must be a whole number; got 2.5"),
        ("train.epochs", True, "whole number"),
        ("train.epochs", "many", "whole number"),
        ("train.epochs", 10**400, "whole number"),
        ("optimizer.lr", None, "must be a number"),
        ("optimizer.lr", float("nan"), "must be a number"),
        ("optimizer.lr", float("inf"), "must be a number"),
        ("train.class_weights", 1, "must be true or false; got 1"),
        ("data.crop", "tail", "unknown data.crop 'tail'; choose from: head, centre"),
        ("data.crop", ["head"], "unknown data.crop ..head..; choose from: head, centre"),
        ("model.backbone", False, "model.backbone must be a word; got False"),
        ("features.sets", [], r"features.sets must be a list with at least one name; got \[\]"),
    ],
)
def test_an_invalid_value_is_refused(name, value, message):
    with pytest.raises(UserError, match=message) as refusal:
        resolve({name: value})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features.pool", "max", "unknown features.pool 'max'; choose from: none, mean"),
        ("features.sets", ["log_mel", "timbre"], "'timbre'; choose from: log_mel, mfcc"),
        ("features.sets", [], "at least one of log_mel, mfcc, zcr, rms"),
        ("features.sets", ["whisper.layers"], "'whisper.layers'"),
    ],
)
def test_a_name_outside_the_registry_is_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        resolve({name: value}, REGISTRIES)
    with pytest.raises(UserError, match=message):
        check(name, value, REGISTRIES)


def test_the_features_of_an_encoder_are_valid_beside_the_names_in_the_registry():
    assert check("features.sets", ["base.statistics", "log_mel"], REGISTRIES) == ("log_mel", "base.statistics")


def test_without_a_registry_any_name_is_valid():
    assert resolve({"model.name": "to come"}).model.name == "to come"


def test_a_value_is_converted_to_the_type_of_the_setting():
    settings = resolve({"train.epochs": 3.0, "optimizer.lr": "1e-3", "distill.alpha": 0, "data.labels": 7})
    assert [settings.train.epochs, settings.optimizer.lr, settings.distill.alpha] == [3, 0.001, 0.0]
    assert isinstance(settings.train.epochs, int) and isinstance(settings.distill.alpha, float)
    assert settings.data.labels == "7"


def test_a_set_has_one_order_and_no_repeats():
    assert resolve({"features.sets": ["mfcc_delta", "zcr", "log_mel", "zcr"]}).features.sets == (
        *("log_mel", "zcr", "mfcc_delta"),
    )
    assert resolve({"features.sets": "mfcc"}).features.sets == ("mfcc",)
    assert resolve({"features.sets": ["b.frames", "rms", "a.frames"]}).features.sets == ("rms", "b.frames", "a.frames")


def test_an_unknown_setting_is_refused_with_the_nearest_one():
    for name in ("lr", "optimizer", "optimizer.", ".lr", "optimizer.lr.x"):
        with pytest.raises(UnknownSetting, match=rf"unknown setting '{name}'; did you mean optimizer\.lr\?"):
            resolve({name: 0.1})
        with pytest.raises(UnknownSetting):
            Settings().value(name)


def test_the_error_names_the_first_of_several_invalid_settings():
    with pytest.raises(UserError, match=r"train\.epochs"):
        resolve({"seed": -1, "optimizer.lr": 5, "train.epochs": 0})


def test_the_stored_form_has_dotted_names_lists_and_numbers_in_their_type():
    stored = resolve({"features.sets": ("rms", "log_mel"), "distill.alpha": 1, "train.epochs": 5.0}).dotted()
    assert list(stored) == list(SETTINGS) == list(resolve({"seed": 1}).with_overrides({"data.folds": 2}).dotted())
    text = json.dumps(stored)
    assert '"features.sets": ["log_mel", "rms"]' in text
    assert '"distill.alpha": 1.0' in text and '"train.epochs": 5,' in text and '"train.class_weights": true' in text


def test_the_digest_of_stored_settings_equals_that_of_earlier_versions():
    settings = resolve({"model.name": "gru", "optimizer.lr": "1e-3", "features.sets": ["zcr", "log_mel"], "seed": 3})
    kept = (
        "model.name",
        "optimizer.lr",
        "features.sets",
        "seed",
        "distill.alpha",
        "train.epochs",
        "model.checkpointing",
    )
    stored = {name: settings.dotted()[name] for name in kept}
    assert digest_of(stored, 16) == "baa556dcbe9ddd46"


def test_settings_are_equal_after_a_round_trip_through_json():
    settings = resolve({"features.sets": ["log_mel", "rms"], "data.max_seconds": 1.1})
    assert resolve(json.loads(json.dumps(settings.dotted()))) == settings


def test_a_setting_that_an_older_version_lacks_has_its_default_and_one_of_a_newer_version_is_refused():
    stored = resolve({"seed": 3}).dotted()
    del stored["distill.hint"], stored["model.relevance"]
    assert resolve(stored) == resolve({"seed": 3})
    with pytest.raises(UnknownSetting, match=r"unknown setting 'model\.colour'"):
        resolve({**stored, "model.colour": "blue"})


def test_overrides_change_neither_the_other_settings_nor_the_original():
    settings = resolve({"train.epochs": 3, "optimizer.lr": 0.01})
    changed = settings.with_overrides({"train.epochs": 4, "train.patience": 2, "seed": 9})
    assert changed == resolve({"train.epochs": 4, "train.patience": 2, "optimizer.lr": 0.01, "seed": 9})
    assert settings == resolve({"train.epochs": 3, "optimizer.lr": 0.01})
    assert changed.data is settings.data
    with pytest.raises(UserError, match="train.epochs must be at least 1"):
        settings.with_overrides({"train.epochs": 0})
    with pytest.raises(UnknownSetting, match="unknown setting 'epochs'"):
        settings.with_overrides({"epochs": 1})


def test_settings_cannot_be_changed_in_place_and_are_equal_by_value():
    settings = resolve({"seed": 1})
    for group, field in ((settings, "seed"), (settings.train, "epochs")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(group, field, 2)
    assert settings == resolve({"seed": 1}) and hash(settings) == hash(resolve({"seed": 1}))
    assert len({settings, resolve({"seed": 1}), resolve({"seed": 2})}) == 2


def test_settings_can_be_pickled():
    settings = resolve({"features.sets": ["log_mel", "rms"], "train.epochs": 2})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_group_checks_its_own_fields():
    with pytest.raises(ValidationError, match="whole number"):
        Settings(train={"epochs": 2.5})
    with pytest.raises(ValidationError, match="colour"):
        Settings(train={"colour": "blue"})


def test_overrides_are_converted_to_json():
    assert as_json({"features.sets": ("log_mel", "rms"), "seed": 1}) == {"features.sets": ["log_mel", "rms"], "seed": 1}
