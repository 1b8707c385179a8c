"""The types of settings, and the values of YAML, JSON and the command line that each accepts."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, StrictBool

SettingValue: TypeAlias = bool | int | float | str | tuple[str, ...]
JsonValue: TypeAlias = bool | int | float | str | list[str]
# Some settings by their dotted names: set by a user, fixed by a search space, or drawn by a trial.
Overrides: TypeAlias = Mapping[str, SettingValue]
# The valid names of settings whose values are the keys of a registry in a higher layer.
Registries: TypeAlias = Mapping[str, Collection[str]]


class Group(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings that share a prefix, each with its description as a docstring.

    Frozen: trials share, compare and hash them.
    """


@dataclass(frozen=True)
class Registered:
    """Marks a field whose values are names of a registry in a higher layer, or match `pattern`."""

    pattern: str | None = None


def _parse_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    try:
        number = float(value)  # a quoted number is one too
    except OverflowError as error:
        raise ValueError("must be a number") from error
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _parse_whole(value: object) -> int:
    number = _parse_number(value)
    if number != int(number):
        raise ValueError("must be a whole number")
    return int(number)


def _parse_word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a word")
    return str(value)  # data.labels 7 is a number in YAML


def _parse_names(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list with at least one name")
    return tuple(dict.fromkeys(items))


Flag = StrictBool
Whole = Annotated[int, BeforeValidator(_parse_whole)]
Real = Annotated[float, BeforeValidator(_parse_number)]
Word = Annotated[str, BeforeValidator(_parse_word)]
Names = Annotated[tuple[str, ...], BeforeValidator(_parse_names)]


def as_json(overrides: Overrides) -> dict[str, JsonValue]:
    """Return `overrides` with tuples as lists, as JSON, YAML and MLflow write them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in overrides.items()}
