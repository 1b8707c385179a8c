"""The table of settings: what each is by default, what it can be, and what it means, by dotted name."""

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
        group, field: where `Settings` has it; the group is "" where it is in none.
        choices: its valid words, where the settings own them.
        low, high: the inclusive range of a number.
        registered: its words are the names of a registry in a higher layer, and those that match `pattern`.
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
        """What its values are."""
        return KINDS[type(self.default)]

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, whole or not."""
        return self.kind in ("whole", "number")

    def refuse_unknown(self, value: SettingValue, known: Collection[str]) -> None:
        """Refuse words that are not among the `known` names of the setting's registry.

        Raises:
            UnknownChoice: names the first of them.
        """
        for word in value if isinstance(value, tuple) else (str(value),):
            if word not in known and not (self.pattern and re.fullmatch(self.pattern, word)):
                raise UnknownChoice(self.name, word, known)

    def make_refusal(self, value: object, problem: str, known: Collection[str]) -> UserError:
        """Return the refusal of a value that has the pydantic error `problem`."""
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


def table_of(root: type[Group]) -> dict[str, Setting]:
    """Return every setting of a model and of the groups in it by its dotted name, in the order of their fields."""
    return {setting.name: setting for setting in _settings(root, "")}


def _settings(model: type[Group], group: str) -> Iterator[Setting]:
    for field, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Group):
            yield from _settings(info.annotation, field)
        else:
            yield _setting(group, field, info)


def _setting(group: str, field: str, info: FieldInfo) -> Setting:
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
