"""`ser schema` prints the schemas that editors use."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.features.families import FEATURE_SETS
from ser_platform.models import MODELS

SEARCH_SPACES = Path(__file__).resolve().parents[2] / "search_spaces"


def run(name: str) -> str:
    result = CliRunner().invoke(app, ["schema", name])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ["settings", "space"])
def test_it_prints_a_schema_with_the_names_of_the_registries(name):
    schema = json.loads(run(name))
    jsonschema.Draft7Validator.check_schema(schema)
    values = schema["properties" if name == "settings" else "definitions"]
    assert values["model.name"]["enum"] == list(MODELS)
    assert set(FEATURE_SETS) <= set(json.dumps(values["features.sets"]).replace('"', " ").replace(",", "").split())


def test_the_schema_of_settings_refuses_an_unknown_setting_and_an_invalid_value():
    schema = jsonschema.Draft7Validator(json.loads(run("settings")))
    assert schema.is_valid({"train.epochs": 3, "model.name": "gru"})
    for settings in ({"epochs": 3}, {"train.epochs": 0}, {"model.name": "vgg"}, {"features.sets": ["timbre"]}):
        assert not schema.is_valid(settings)


def test_the_schema_of_search_spaces_is_the_shipped_file():
    assert run("space") == (SEARCH_SPACES / "schema.json").read_text(encoding="utf-8")
