"""The JSON schema of search-space files, from the tables that their parser reads.

An editor completes and checks with it as a file is written. Rules that join several places (a condition that no
configuration meets, a grid without an end) are the parser's alone.
"""

from collections.abc import Iterable

from ser_platform.settings import OF_A_STUDY, SETTINGS, Setting, member_schema, value_schema
from ser_platform.settings.schema import DRAFT, Schema
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.space_sections import ENTRIES, Entry
from ser_platform.tuning.search_space.trial_metrics import TRIAL_METRICS
from ser_platform.tuning.search_space.yaml_axes import DOMAINS, MAX_CHOICES, MAX_SUBSET_MEMBERS, STEPPED_DOMAINS
from ser_platform.tuning.search_space.yaml_file import ROLES
from ser_platform.tuning.search_space.yaml_source import SECTIONS

DESCRIPTIONS = {
    "role": "what is searched: a teacher or a student",
    "base": "settings of every trial; what is missing has its default",
    "space": "what is searched: a domain for each setting",
    "points": "configurations to try first; the rest of each is drawn",
    "objective": "what is made best; several end with a Pareto set",
    "constraints": "bounds that a configuration must keep",
    "budget": "when the search ends: whatever is used up first",
    "confirm": "the best trials are trained again, with new seeds",
    "sampler": "what proposes configurations",
    "scheduler": "what stops trials early",
    "resources": "what a trial takes",
}


def space_schema() -> Schema:
    """Return the schema of search-space files."""
    sections: dict[str, Schema] = {
        "role": {"enum": list(ROLES)},
        "base": _mapping({name: _value_of(name) for name in SETTINGS}),
        "space": _mapping({name: _axis(setting) for name, setting in SETTINGS.items() if name not in OF_A_STUDY}),
        "points": _list(_mapping({name: _value_of(name) for name in SETTINGS if name not in OF_A_STUDY}, least=1)),
        "objective": _list({"anyOf": [_objective(direction) for direction in ("maximize", "minimize")]}),
        "constraints": _list(_constraint()),
        **{name: _mapping({key: _entry(entry) for key, entry in keys.items()}) for name, keys in ENTRIES.items()},
    }
    return {
        "$schema": DRAFT,
        "title": "Search space",
        "type": "object",
        "properties": {name: sections[name] | {"description": DESCRIPTIONS[name]} for name in SECTIONS},
        "required": ["role"],
        "additionalProperties": False,
        "definitions": {
            **{name: value_schema(setting, REGISTRIES.get(name, ())) for name, setting in SETTINGS.items()},
            **{
                f"{name}.name": member_schema(setting, REGISTRIES.get(name, ()))
                for name, setting in SETTINGS.items()
                if setting.kind == "names"
            },
            "when": _mapping({name: _one_or_several(_member(setting)) for name, setting in SETTINGS.items()}, least=1),
        },
    }


def _value_of(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _member(setting: Setting) -> Schema:
    """Return the schema of one value of a setting; of a set, of one of its names."""
    return _value_of(f"{setting.name}.name" if setting.kind == "names" else setting.name)


def _axis(setting: Setting) -> Schema:
    one = _member(setting)
    domains = {
        "choice": _list(one, most=MAX_CHOICES),
        "subset": _list(one, most=MAX_SUBSET_MEMBERS),
        "uniform": _range(one),
        "loguniform": _range({"allOf": [one, {"exclusiveMinimum": 0}]}),
        "int": _range({"allOf": [one, {"type": "integer"}]}),
        "fixed": _value_of(setting.name),
    }
    valid = [domain for domain in DOMAINS if _has(setting, domain)]
    stepped = [domain for domain in valid if domain in STEPPED_DOMAINS]
    return {
        "type": "object",
        "description": setting.description,
        "properties": {
            **{domain: domains[domain] for domain in valid},
            **({"step": {"type": "number", "exclusiveMinimum": 0}} if stepped else {}),
            **({"min": {"type": "integer", "minimum": 1}} if "subset" in valid else {}),
            "when": {"$ref": "#/definitions/when"},
        },
        "oneOf": [{"required": [domain]} for domain in valid],
        "dependencies": {
            **({"step": {"anyOf": [{"required": [domain]} for domain in stepped]}} if stepped else {}),
            **({"min": ["subset"]} if "subset" in valid else {}),
        },
        "additionalProperties": False,
    }


def _has(setting: Setting, domain: str) -> bool:
    """Return whether a setting can be searched in a domain."""
    if domain == "subset":
        return setting.kind == "names"
    if domain == "uniform":
        return setting.kind == "number"
    return domain in ("choice", "fixed") or setting.is_numeric


def _objective(direction: str) -> Schema:
    metrics = [name for name, measure in TRIAL_METRICS.items() if measure.direction == direction]
    return _mapping({"metric": {"enum": metrics}, "direction": {"const": direction}}, required=["metric"])


def _constraint() -> Schema:
    bounds: dict[str, Schema] = {"at_most": {"type": "number"}, "at_least": {"type": "number"}}
    constraint = _mapping({"metric": {"enum": list(TRIAL_METRICS)}, **bounds}, required=["metric"])
    return constraint | {"anyOf": [{"required": [bound]} for bound in bounds]}


def _entry(entry: Entry) -> Schema:
    if entry.choices:
        return {"enum": list(entry.choices), "description": entry.description}
    number: Schema = {"type": "integer" if entry.whole else "number", "minimum": entry.low}
    most: Schema = {} if entry.high is None else {"maximum": entry.high}
    return number | most | {"description": entry.description}


def _mapping(properties: dict[str, Schema], *, required: Iterable[str] = (), least: int = 0) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        **({"minProperties": least} if least else {}),
    }


def _list(items: Schema, *, most: int | None = None) -> Schema:
    listed: Schema = {"type": "array", "items": items}
    return listed if most is None else listed | {"minItems": 1, "maxItems": most, "uniqueItems": True}


def _range(end: Schema) -> Schema:
    return {"type": "array", "items": end, "minItems": 2, "maxItems": 2}


def _one_or_several(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_CHOICES}]}
