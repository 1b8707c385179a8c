"""The JSON schema of settings accepts and refuses the values that the settings accept and refuse."""

import jsonschema
import pytest

from ser_platform.errors import UserError
from ser_platform.settings import SETTINGS, Settings, check, resolve, settings_schema

REGISTRIES = {"features.sets": ("log_mel", "mfcc"), "model.name": ("gru", "mlp")}
SCHEMA = settings_schema(REGISTRIES)
OF_VALUES = {name: jsonschema.Draft7Validator(schema) for name, schema in SCHEMA["properties"].items()}
VALUES = [
    *(None, True, False, 0, 1, 2, 3, 5, 0.5, 2.5, -1, 10**9, {}, [], [1], ["log_mel"], ["log_mel", "timbre"]),
    *("log_mel", "a.frames", ["a.statistics"], "gru", "blue", "head", "mean", "kl", "broad", "float32", "none"),
]


def test_it_is_a_schema_of_every_setting_and_of_nothing_else():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    whole = jsonschema.Draft7Validator(SCHEMA)
    assert whole.is_valid({}) and whole.is_valid(resolve({}).dotted() | {"model.name": "gru"})
    assert not whole.is_valid({"epochs": 3})
    assert {name: schema["description"] for name, schema in SCHEMA["properties"].items()} == {
        name: setting.description for name, setting in SETTINGS.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_it_accepts_the_values_that_the_setting_accepts(name):
    accepted = [value for value in VALUES if is_valid(name, value)]
    assert [value for value in VALUES if OF_VALUES[name].is_valid(value)] == accepted


def is_valid(name: str, value: object) -> bool:
    try:
        check(name, value, REGISTRIES)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.is_numeric])
def test_it_has_the_ends_of_a_range(name):
    setting, schema = SETTINGS[name], OF_VALUES[name]
    assert schema.is_valid(setting.low) and schema.is_valid(setting.high)
    assert not schema.is_valid(setting.low - 1) and not schema.is_valid(setting.high + 1)


def test_it_agrees_with_the_schemas_of_the_models():
    whole = Settings.model_json_schema()
    for name, setting in SETTINGS.items():
        group, _, field = name.rpartition(".")
        owner = whole if not group else whole["$defs"][whole["properties"][group]["$ref"].rpartition("/")[2]]
        theirs = owner["properties"][field]
        theirs["description"] = " ".join(theirs["description"].split())
        for key in ("default", "description", *(() if setting.registered else ("minimum", "maximum", "enum"))):
            assert SCHEMA["properties"][name].get(key) == theirs.get(key), (name, key)
