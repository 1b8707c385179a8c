"""A search-space file as it is written: its sections, entries and numbers, and the line of everything in it."""

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ser_platform.errors import SearchSpaceError, UserError
from ser_platform.settings import check
from ser_platform.tuning.search_space.registered_names import REGISTRIES

MAX_FILE_CHARACTERS = 200_000  # characters
SECTIONS = (
    "role",
    "base",
    "space",
    "points",
    "objective",
    "constraints",
    "budget",
    "confirm",
    "sampler",
    "scheduler",
    "resources",
)


class YamlSource:
    """The content of one file. A place is the way to something in it: section, key or number of the entry, key.

    Raises:
        SpaceError: the file is no YAML, no mapping, a key stands twice, or a section is unknown.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        node, self.content = _parse_yaml(path, text)
        if not isinstance(self.content, dict):
            raise SearchSpaceError(f"{path}: a search space is a mapping with {', '.join(SECTIONS)}")
        self._record_lines(node, ())
        self._check_keys(self.content, SECTIONS, "")

    def _record_lines(self, node: yaml.Node | None, place: tuple[str, ...]) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, entry in enumerate(node.value):
                self.lines[(*place, str(number))] = entry.start_mark.line + 1
                self._record_lines(entry, (*place, str(number)))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if (*place, str(key.value)) in self.lines:
                    line = key.start_mark.line + 1
                    raise SearchSpaceError(
                        f"{self.path}:{line}: {key.value!r} stands twice; the first is on another line"
                    )
                self.lines[(*place, str(key.value))] = key.start_mark.line + 1
                self._record_lines(value, (*place, str(key.value)))

    def make_error(self, message: str, *place: str) -> SearchSpaceError:
        """Return the refusal of what stands at a place, or next above it; one line."""
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), None)
        return SearchSpaceError(f"{self.path}{'' if line is None else f':{line}'}: {message}")

    def _check_keys(self, section: Mapping[Any, Any], valid: tuple[str, ...], where: str, *place: str) -> None:
        for key in section:
            if key not in valid:
                near = difflib.get_close_matches(str(key), valid, 1)
                meant = f" (did you mean {near[0]}?)" if near else ""
                message = f"unknown key {key!r}{where}{meant}; choose from: {', '.join(valid)}"
                raise self.make_error(message, *place, str(key))

    def read_section(self, name: str, valid: tuple[str, ...]) -> dict[str, Any]:
        """Return a section, empty where there is none; every key of it is valid."""
        section = self.content.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            raise self.make_error(f"{name} must be a mapping with {', '.join(valid)}; got {section!r}", name)
        self._check_keys(section, valid, f" in {name}", name)
        return section

    def read_entries(self, name: str, valid: tuple[str, ...], example: str) -> list[dict[str, Any]]:
        """Return a section that is a list of mappings, empty where there is none; every key of them is valid."""
        entries = self.content.get(name)
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise self.make_error(f"{name} must be a list of mappings like - {example}; got {entries!r}", name)
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry:
                raise self.make_error(f"each of {name} must be like {example}; got {entry!r}", name, str(number))
            self._check_keys(entry, valid, f" in {name}", name, str(number))
        return entries

    def read_number(self, section: str, key: str, default: float, low: float, high: float = float("inf")) -> float:
        """Return a number of a section, which is at least `low` and at most `high`."""
        value = self.content[section].get(key, default) if self.content.get(section) else default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= min(high, sys.float_info.max):
            most = "" if high == float("inf") else f" and at most {high:.10g}"
            raise self.make_error(
                f"{section}.{key} must be a number of at least {low:g}{most}; got {value!r}", section, key
            )
        return value

    def read_integer(self, section: str, key: str, default: int, low: int, high: float = float("inf")) -> int:
        """Return a whole number of a section."""
        value = self.read_number(section, key, default, low, high)
        if value != int(value):
            raise self.make_error(f"{section}.{key} must be a whole number; got {value!r}", section, key)
        return int(value)

    def read_choice(self, section: str, key: str, default: str, valid: tuple[str, ...]) -> str:
        """Return a word of a section that is one of `valid`."""
        value = (self.content.get(section) or {}).get(key, default)
        if value not in valid:
            raise self.make_error(f"unknown {section} {value!r}; choose from: {', '.join(valid)}", section, key)
        return str(value)

    def check_setting(self, name: str, value: Any, *place: str) -> Any:
        """Refuse a value that a setting cannot have; return it, as a number where YAML has read 1e-3 as a word."""
        try:
            checked = check(name, value, REGISTRIES)
        except UserError as error:
            raise self.make_error(str(error), *place) from error
        if isinstance(value, list):
            return tuple(value)
        return checked if isinstance(value, str) and not isinstance(checked, str | tuple) else value


def _parse_yaml(path: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """Return a text as YAML's nodes, which know their lines, and as values.

    Raises:
        SpaceError: it is no YAML, or has what a search space needs not: aliases, of which few lines make billions.
    """
    if len(text) > MAX_FILE_CHARACTERS:
        raise SearchSpaceError(f"{path}: {len(text):,} characters; a search space has at most {MAX_FILE_CHARACTERS:,}")
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                line = token.start_mark.line + 1
                raise SearchSpaceError(
                    f"{path}:{line}: a search space takes no alias (*{token.value}); write the value out"
                )
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise SearchSpaceError(f"{path}{line}: not YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise SearchSpaceError(f"{path}: nested too deeply for a search space") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # what its readers of dates and tags raise
        raise SearchSpaceError(f"{path}: holds what YAML cannot read: {' '.join(str(error).split())}") from error
