"""JSON schemas of settings by dotted name, for editors and other programs."""

from collections.abc import Collection
from typing import TypeAlias

from ser_platform.settings.settings import NO_REGISTRIES, SETTINGS
from ser_platform.settings.table import Setting
from ser_platform.settings.values import Registries

Schema: TypeAlias = dict[str, object]
DRAFT = "http://json-schema.org/draft-07/schema#"  # the latest that editors of YAML support in full


def settings_schema(registries: Registries = NO_REGISTRIES) -> Schema:
    """Return the schema of a mapping of settings by dotted name; none is required.

    Args:
        registries: the valid names of settings that choose from a registry; without them any name is valid.
    """
    properties = {name: value_schema(setting, registries.get(name, ())) for name, setting in SETTINGS.items()}
    return {"$schema": DRAFT, "type": "object", "properties": properties, "additionalProperties": False}


def value_schema(setting: Setting, known: Collection[str] = ()) -> Schema:
    """Return the schema of a setting's values with default and description; `known` are the names in its registry."""
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    return _values(setting, known) | {"default": default, "description": setting.description}


def member_schema(setting: Setting, known: Collection[str] = ()) -> Schema:
    """Return the schema of a single value of a setting; for a setting of names, of one name."""
    return _words(setting, known) if setting.kind == "names" else _values(setting, known)


def _values(setting: Setting, known: Collection[str]) -> Schema:
    if setting.kind == "flag":
        return {"type": "boolean"}
    if setting.kind == "word":
        return _words(setting, known)
    if setting.kind == "names":
        words = _words(setting, known)
        return {"anyOf": [words, {"type": "array", "items": words, "minItems": 1}]}
    limits = {"minimum": setting.low, "maximum": setting.high}
    return {"type": "integer" if setting.kind == "whole" else "number"} | {
        name: limit for name, limit in limits.items() if limit is not None
    }


def _words(setting: Setting, known: Collection[str]) -> Schema:
    choices = setting.choices or tuple(known)
    if not choices:
        return {"type": "string" if setting.kind == "names" else ["string", "integer"]}  # data.labels can be 7
    if setting.pattern is None:
        return {"enum": list(choices)}
    return {"anyOf": [{"enum": list(choices)}, {"type": "string", "pattern": f"^{setting.pattern}$"}]}
