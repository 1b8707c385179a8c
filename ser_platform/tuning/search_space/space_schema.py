"""The JSON schema of search-space files, with which an editor completes and checks a file.

Rules that join several places of a file (a condition that no configuration meets, an infinite grid) are checked by the
parser alone.
"""

from collections.abc import Mapping

from ser_platform.settings import OF_A_STUDY, SETTINGS, Setting, member_schema, value_schema
from ser_platform.settings.schema import DRAFT, Schema
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.space_sections import (
    DOMAINS,
    ENTRIES,
    LISTED_ENTRIES,
    MAX_CHOICES,
    OPTIONS,
    ROLE,
    SECTIONS,
    Entry,
)
from ser_platform.tuning.search_space.trial_metrics import TRIAL_METRICS


def space_schema() -> Schema:
    """Return the schema of search-space files, with the names of all registries."""
    searched = {name: setting for name, setting in SETTINGS.items() if name not in OF_A_STUDY}
    sections: dict[str, Schema] = {
        "role": _entry(ROLE),
        "base": _optional(_mapping({name: _value_of(name) for name in SETTINGS})),
        "space": _optional(_mapping({name: _axis(setting) for name, setting in searched.items()})),
        "points": _optional(_list(_mapping({name: _value_of(name) for name in searched}) | {"minProperties": 1})),
        "objective": _optional(_list({"anyOf": [_objective(direction) for direction in ("maximize", "minimize")]})),
        "constraints": _optional(_list(_constraint())),
        **{name: _optional(_entries(entries)) for name, entries in ENTRIES.items()},
    }
    definitions: dict[str, Schema] = {}
    for name, setting in SETTINGS.items():
        definitions[name] = value_schema(setting, REGISTRIES.get(name, ()))
        if setting.kind == "names":
            definitions[f"{name}.name"] = member_schema(setting, REGISTRIES.get(name, ()))
    conditions = {name: _one_or_several(_member(setting)) for name, setting in SETTINGS.items()}
    return {
        "$schema": DRAFT,
        "title": "Search space",
        "type": "object",
        "properties": {name: sections[name] | {"description": words} for name, words in SECTIONS.items()},
        "required": ["role"],
        "additionalProperties": False,
        "definitions": definitions | {"when": _mapping(conditions)},
    }


def _value_of(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _member(setting: Setting) -> Schema:
    """Return the schema of one value of a setting; of a set, of one of its names."""
    return _value_of(f"{setting.name}.name" if setting.kind == "names" else setting.name)


def _axis(setting: Setting) -> Schema:
    domains = {name: domain for name, domain in DOMAINS.items() if setting.kind in domain.kinds}
    options = dict.fromkeys(option for domain in domains.values() for option in domain.options)
    return {
        "type": "object",
        "description": setting.description,
        "properties": {
            **{name: _domain(name, setting) for name in domains},
            **{option: _entry(OPTIONS[option]) for option in options},
            "when": {"$ref": "#/definitions/when"},
        },
        "oneOf": [{"required": [name]} for name in domains],
        "dependencies": {
            option: {"anyOf": [{"required": [name]} for name, domain in domains.items() if option in domain.options]}
            for option in options
        },
        "additionalProperties": False,
    }


def _domain(name: str, setting: Setting) -> Schema:
    if name == "fixed":
        return _value_of(setting.name)
    domain, member = DOMAINS[name], _member(setting)
    values = _list(member if domain.end is None else {"allOf": [member, _entry(domain.end)]})
    values |= {"minItems": domain.least, "maxItems": domain.most}
    return values | ({"uniqueItems": True} if domain.end is None else {})


def _objective(direction: str) -> Schema:
    metrics = [name for name, metric in TRIAL_METRICS.items() if metric.direction == direction]
    chosen: dict[str, Schema] = {"metric": {"enum": metrics}, "direction": {"const": direction}}
    return _entries(LISTED_ENTRIES["objective"]) | {"properties": chosen}


def _constraint() -> Schema:
    return _entries(LISTED_ENTRIES["constraints"]) | {"minProperties": 2}


def _entries(entries: Mapping[str, Entry]) -> Schema:
    required = [key for key, entry in entries.items() if entry.required]
    mapping = _mapping({key: _entry(entry) for key, entry in entries.items()})
    return mapping | ({"required": required} if required else {})


def _entry(entry: Entry) -> Schema:
    described: Schema = {"description": entry.description} if entry.description else {}
    if entry.choices:
        return {"enum": list(entry.choices)} | described
    limits = {"minimum": entry.low, "maximum": entry.high, "exclusiveMinimum": entry.above}
    number: Schema = {"type": "integer" if entry.whole else "number"}
    return number | {key: limit for key, limit in limits.items() if limit is not None} | described


def _optional(section: Schema) -> Schema:
    """Return the schema of a section that can be empty."""
    return section | {"type": [section["type"], "null"]}


def _mapping(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_or_several(value: Schema) -> Schema:
    return {"anyOf": [value, _list(value) | {"minItems": 1, "maxItems": MAX_CHOICES}]}
