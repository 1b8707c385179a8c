"""The table of settings: default, valid values and description of each, by dotted name."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from ser_platform.errors import UnknownChoice, UserError
from ser_platform.settings.values import Group, Registered, SettingValue

Kind: TypeAlias = Literal["flag", "whole", "number", "word", "names"]
KINDS: dict[type, Kind] = {bool: "flag", int: "whole", float: "number", str: "word", tuple: "names"}
NOUNS: dict[Kind, str] = {
    "flag": "true or false",
    "whole": "a whole number",
    "number": "a number",
    "word": "a word",
    "names": "a list with at least one name",
}
OUT_OF_RANGE = ("greater_than_equal", "less_than_equal")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        group, field: its path in `Settings`; the group is "" where it is in none.
        choices: its valid words; empty where any word is valid or they are names in a registry.
        low, high: the inclusive range of a number.
        registered: its values are names of a registry in a higher layer, or match `pattern`.
    """

    group: str
    field: str
    default: SettingValue
    description: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    registered: bool = False
    pattern: str | None = None

    @cached_property
    def name(self) -> str:
        """Its dotted name."""
        return f"{self.group}.{self.field}" if self.group else self.field

    @property
    def kind(self) -> Kind:
        """The kind of its values."""
        return KINDS[type(self.default)]

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, whole or not."""
        return self.kind in ("whole", "number")

    def refuse_unknown(self, value: SettingValue, known: Collection[str]) -> None:
        """Refuse a value with a word that is not among the `known` names of the setting's registry.

        Raises:
            UnknownChoice: names the first such word.
        """
        for word in value if isinstance(value, tuple) else (str(value),):
            if word not in known and not (self.pattern and re.fullmatch(self.pattern, word)):
                raise UnknownChoice(self.name, word, known)

    def make_refusal(self, value: object, problem: str, known: Collection[str]) -> UserError:
        """Return an error for an invalid value; `problem` is the type of the pydantic error."""
        choices = self.choices or known
        if choices and self.kind == "word":
            return UnknownChoice(self.name, value, choices)
        valid = self._range if problem in OUT_OF_RANGE else NOUNS[self.kind]
        if choices:
            valid = f"a list with at least one of {', '.join(choices)}"
        return UserError(f"{self.name} must be {valid}; got {value!r}")

    @property
    def _range(self) -> str:
        low = "" if self.low is None else f"at least {self.low:g}"
        high = "" if self.high is None else f"at most {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


def make_table(root: type[Group]) -> dict[str, Setting]:
    """Return every setting of a model and of its groups by dotted name, in the order of their fields."""
    return {setting.name: setting for setting in _iterate_settings(root, "")}


def _iterate_settings(model: type[Group], group: str) -> Iterator[Setting]:
    for field, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Group):
            yield from _iterate_settings(info.annotation, field)
        else:
            yield _make_setting(group, field, info)


def _make_setting(group: str, field: str, info: FieldInfo) -> Setting:
    notes = {type(note): note for note in info.metadata}
    registered = notes.get(Registered)
    return Setting(
        group,
        field,
        info.default,
        " ".join((info.description or "").split()),
        get_args(info.annotation) if get_origin(info.annotation) is Literal else (),
        notes[Ge].ge if Ge in notes else None,
        notes[Le].le if Le in notes else None,
        registered is not None,
        registered.pattern if registered else None,
    )
