"""The setting that an unknown name means."""

import pytest

from ser_platform.settings import SETTINGS
from ser_platform.settings.suggestions import ALIASES, describe_unknown_setting, suggest_settings


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("learning_rate", ["optimizer.lr", "model.learning_rate"]),
        ("lr", ["optimizer.lr"]),
        ("optimizer.learning-rate", ["optimizer.lr", "model.learning_rate"]),
        ("epochs", ["train.epochs"]),
        ("model.epochs", ["train.epochs"]),
        ("batch_size", ["train.batch_size"]),
        ("hidden_dim", ["model.hidden_size"]),
        ("units", ["model.hidden_size"]),
        ("dropout", ["model.dropout"]),
        ("weight_decay", ["optimizer.weight_decay"]),
        ("temperature", ["distill.temperature"]),
        ("T", ["distill.temperature"]),
        ("alpha", ["distill.alpha"]),
        ("n_mels", ["features.sets"]),
        ("mfcc", ["features.sets", "features.n_mfcc"]),
        ("duration", ["data.max_seconds"]),
        ("Model.Name", ["model.name"]),
        ("model.nme", ["model.name"]),
        ("droput", ["model.dropout"]),
        ("banana", []),
    ],
)
def test_a_name_is_found_by_meaning_by_its_last_part_and_by_spelling(given: str, meant: list[str]) -> None:
    assert suggest_settings(given, SETTINGS) == meant


def test_every_other_word_means_a_setting_and_is_none_itself() -> None:
    assert {name for meant in ALIASES.values() for name in meant} <= SETTINGS.keys()
    assert not ALIASES.keys() & SETTINGS.keys()


def test_only_valid_names_are_suggested() -> None:
    assert suggest_settings("learning_rate", ["model.learning_rate"]) == ["model.learning_rate"]
    assert describe_unknown_setting("banana", SETTINGS) == "`ser schema settings` prints all"
