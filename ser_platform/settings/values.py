"""The values that settings hold, and what each kind accepts of YAML, JSON and the command line."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, StrictBool

SettingValue: TypeAlias = bool | int | float | str | tuple[str, ...]
JsonValue: TypeAlias = bool | int | float | str | list[str]
# Some settings by their dotted names: what a user sets, what a search space fixes, what a trial draws.
Overrides: TypeAlias = Mapping[str, SettingValue]
# The names that registries of higher layers hold, by the setting that chooses among them.
Registries: TypeAlias = Mapping[str, Collection[str]]


class Group(BaseModel, frozen=True, extra="forbid"):
    """Settings that share a prefix. Frozen: they are shared between trials, compared and hashed."""


@dataclass(frozen=True)
class Registered:
    """Marks a field whose words are the names of a registry in a higher layer, which checks them.

    Words that match `pattern` are valid beside the registry's names.
    """

    pattern: str | None = None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    try:
        number = float(value)  # YAML reads 1e-3 as a word
    except OverflowError as error:
        raise ValueError("must be a number") from error
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _whole(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError("must be a whole number")
    return int(number)


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a word")
    return str(value)  # YAML reads the preset 7 as a number


def _names(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list with at least one name")
    return tuple(dict.fromkeys(items))


Flag = StrictBool
Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_number)]
Word = Annotated[str, BeforeValidator(_word)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


def as_json(overrides: Overrides) -> dict[str, JsonValue]:
    """Return `overrides` with tuples as lists, as JSON, YAML and MLflow write them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in overrides.items()}
