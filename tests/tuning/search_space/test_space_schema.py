"""The JSON schema of search-space files and the parser accept and refuse the same values."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from ser_platform.errors import SearchSpaceError
from ser_platform.features.families import FAMILIES
from ser_platform.settings import SETTINGS
from ser_platform.settings.yaml_loader import YamlLoader
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.space_schema import space_schema
from ser_platform.tuning.search_space.space_sections import ENTRIES
from ser_platform.tuning.search_space.yaml_file import find_space_files, parse_space

SHIPPED = Path(__file__).resolve().parents[3] / "search_spaces"
SCHEMA = jsonschema.Draft7Validator(space_schema())
HEAD = "role: student\nbase: {train.epochs: 200}\n"


def is_valid(text: str) -> bool:
    return SCHEMA.is_valid(yaml.load(text, Loader=YamlLoader))


def is_parsed(text: str) -> bool:
    try:
        parse_space(Path("made.yaml"), text)
    except SearchSpaceError:
        return False
    return True


def searched(axis: str) -> str:
    return f"{HEAD}space: {{{axis}}}\n"


def test_every_setting_that_chooses_from_a_registry_has_its_names():
    assert {name for name, setting in SETTINGS.items() if setting.registered} == REGISTRIES.keys()
    assert set(REGISTRIES["features.sets"]) == set(FAMILIES)


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(space_schema())


def test_the_shipped_schema_is_the_one_that_the_platform_makes():
    shipped = json.loads((SHIPPED / "schema.json").read_text(encoding="utf-8"))
    assert shipped == space_schema(), "run: ser schema space > search_spaces/schema.json"


@pytest.mark.parametrize("path", find_space_files(SHIPPED).values(), ids=lambda path: path.stem)
def test_a_shipped_file_follows_it_and_names_it_for_editors(path):
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[1] == "# yaml-language-server: $schema=schema.json"
    assert is_valid(text)


def test_the_example_of_the_readme_follows_it():
    example = re.search(r"```yaml\n(.*?)```", (SHIPPED / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    SCHEMA.validate(yaml.load(example[1], Loader=YamlLoader))


@pytest.mark.parametrize(
    "text",
    [
        searched("optimizer.lr: {loguniform: [1.0e-3, 1.0e-2]}"),
        searched("data.max_seconds: {uniform: [1, 5], step: 0.5}"),
        searched("data.max_seconds: {int: [1, 5]}"),
        searched("model.hidden_size: {loguniform: [8, 64]}"),
        searched("train.class_weights: {choice: [true, false]}"),
        searched("features.sets: {choice: [log_mel, base.statistics]}"),
        searched("features.sets: {subset: [log_mel, mfcc], min: 2}"),
        searched("features.sets: {fixed: [log_mel, mfcc]}"),
        searched("features.n_mfcc: {choice: [13], when: {train.epochs: [200]}}"),
        HEAD + "objective: [{metric: parameters, direction: minimize}]",
        HEAD + "constraints: [{metric: macs, at_least: 1, at_most: 2.5}]",
        HEAD + "budget: {}",
        HEAD + "budget:",
        HEAD + "points:",
        searched("model.layers: {choice: [1], when: {}}"),
        searched("distill.hint: {choice: [off, mse]}"),
        searched("optimizer.lr: {uniform: [1e-3, 1e-2]}"),
    ],
)
def test_it_accepts_what_the_parser_accepts(text):
    assert is_parsed(text) and is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "base: {}",
        "role: pupil",
        "[]",
        HEAD + "spaces: {}",
        "role: student\nbase: {epochs: 3}",
        "role: student\nbase: {train.epochs: 0}",
        "role: student\nbase: {model.name: vgg}",
        searched("model.nam: {choice: [gru]}"),
        searched("data.labels: {choice: [shared]}"),
        searched("model.name: {choice: [gru, resnet]}"),
        searched("model.name: {choice: [gru, gru]}"),
        searched("model.name: {choice: []}"),
        searched("model.name: {subset: [gru, mlp]}"),
        searched("features.sets: {subset: [log_mel, timbre]}"),
        searched("features.sets: {subset: [log_mel, zcr], min: 0}"),
        searched("features.sets: {choice: [[log_mel]]}"),
        searched("optimizer.lr: 0.1"),
        searched("optimizer.lr: {normal: [0, 1]}"),
        searched("optimizer.lr: {uniform: [0.1, 0.2], choice: [0.1]}"),
        searched("optimizer.weight_decay: {loguniform: [0, 1]}"),
        searched("distill.alpha: {uniform: [0, 1.5]}"),
        searched("distill.alpha: {uniform: [0.1, 0.2, 0.3]}"),
        searched("distill.alpha: {uniform: [0, 1], step: 0}"),
        searched("data.max_seconds: {int: [1.5, 3]}"),
        searched("model.hidden_size: {uniform: [8, 128]}"),
        searched("model.layers: {choice: [1, 2], step: 1}"),
        searched("model.layers: {choice: [1, 2], min: 1}"),
        searched("model.layers: {choice: [1], when: gru}"),
        searched("model.layers: {choice: [1], when: {train.epochs: []}}"),
        searched("model.layers: {choice: [1], when: {train.epochs: few}}"),
        searched("model.layers: {choice: [1], when: {train.epochs: [[200]]}}"),
        searched("model.layers: {choice: ['1']}"),
        searched("features.sets: {choice: [log_mel]}") + "points: [{}]",
        searched("model.name: {choice: [gru]}") + "points: [{model.name: [gru]}]",
        searched("model.layers: {choice: [1, 2]}") + "points: [3]",
        HEAD + "objective: dev_uar",
        HEAD + "objective: [{metric: test_uar}]",
        HEAD + "objective: [{metric: dev_uar, direction: minimize}]\nscheduler: {name: none}",
        HEAD + "constraints: [{metric: macs}]",
        HEAD + "constraints: [{metric: macs, at_most: few}]",
        HEAD + "budget: {hours: 3}",
        HEAD + "sampler: {name: cmaes}",
    ],
)
def test_it_refuses_what_the_parser_refuses(text):
    assert not is_parsed(text) and not is_valid(text)


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in ENTRIES.items() for key in keys])
def test_schema_and_parser_have_the_same_limits(section, key):
    entry = ENTRIES[section][key]
    if entry.choices:
        valid, invalid = list(entry.choices), ["blue", 1]
    else:
        assert entry.low is not None
        valid = [entry.low, entry.high or 100]
        invalid = [entry.low - 0.001, "few", True, "'3'", "null", *([entry.high + 1] if entry.high else [])]
        (invalid if entry.whole else valid).append(entry.low + 0.5)
    for value in valid:
        text = f"{HEAD}{section}: {{{key}: {value}}}\n"
        assert is_parsed(text) and is_valid(text), text
    for value in invalid:
        text = f"{HEAD}{section}: {{{key}: {value}}}\n"
        assert not is_parsed(text) and not is_valid(text), text
