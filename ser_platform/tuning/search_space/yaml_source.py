"""The content of a search-space file with the line of every key and entry, and the checks of single values."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ser_platform.errors import SearchSpaceError, UserError
from ser_platform.settings import SETTINGS, check
from ser_platform.settings.suggestions import ALL_SETTINGS, describe_unknown_setting
from ser_platform.settings.yaml_loader import YamlLoader
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.space_sections import ENTRIES, LISTED_ENTRIES, SECTIONS, Entry
from ser_platform.tuning.search_space.trial_metrics import FORMER_NAMES

MAX_FILE_CHARACTERS = 200_000


class YamlSource:
    """The content of one file. A place is a path in it: a section, a key or the number of an entry, a key.

    Every method raises SearchSpaceError with the line of what is invalid.

    Raises:
        SearchSpaceError: the file is not YAML, not a mapping, has a key twice or an unknown section.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        node, self.content = _parse_yaml(path, text)
        if not isinstance(self.content, dict):
            raise SearchSpaceError(f"{path}: a search space is a mapping of {', '.join(SECTIONS)}")
        self._record_lines(node, ())
        self.check_keys(self.content, SECTIONS, "")

    def _record_lines(self, node: yaml.Node | None, place: tuple[str, ...]) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, entry in enumerate(node.value):
                self.lines[(*place, str(number))] = entry.start_mark.line + 1
                self._record_lines(entry, (*place, str(number)))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if (*place, str(key.value)) in self.lines:
                    line = key.start_mark.line + 1
                    raise SearchSpaceError(f"{self.path}:{line}: {key.value!r} is given twice; remove one")
                self.lines[(*place, str(key.value))] = key.start_mark.line + 1
                self._record_lines(value, (*place, str(key.value)))

    def make_error(self, message: str, *place: str) -> SearchSpaceError:
        """Return an error with the line of a place, or of the nearest place above it that has one."""
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), None)
        return SearchSpaceError(f"{self.path}{'' if line is None else f':{line}'}: {message}")

    def check_keys(self, section: Mapping[Any, Any], valid: Iterable[str], where: str, *place: str) -> None:
        """Refuse a key of a mapping that is not among `valid`; `where` names the mapping in the message."""
        for key in section:
            if key not in (choices := tuple(valid)):
                near = difflib.get_close_matches(str(key), choices, 1)
                meant = f" (did you mean {near[0]}?)" if near else ""
                message = f"unknown key {key!r}{where}{meant}; choose from: {', '.join(choices)}"
                raise self.make_error(message, *place, str(key))

    def read_section(self, name: str, valid: Iterable[str]) -> dict[str, Any]:
        """Return a section, empty where the file has none; refuse unknown keys."""
        section = self.content.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            raise self.make_error(f"{name} must be a mapping of {', '.join(valid)}; got {section!r}", name)
        self.check_keys(section, valid, f" in {name}", name)
        return section

    def read_settings(self, name: str, valid: Collection[str]) -> dict[str, Any]:
        """Return a section whose keys are settings, empty where the file has none; refuse unknown ones."""
        section = self.content.get(name)
        for key in section if isinstance(section, dict) else ():
            if key in SETTINGS and key not in valid:
                raise self.make_error(f"{key} is the same in all trials of a study; move it to base", name, str(key))
            if key not in valid:
                advice = describe_unknown_setting(str(key), valid)
                raise self.make_error(f"unknown key {key!r} in {name}; {advice}", name, str(key))
        if section is not None and not isinstance(section, dict):
            raise self.make_error(f"{name} must be a mapping of settings; got {section!r}; {ALL_SETTINGS}", name)
        return section or {}

    def read_list(self, name: str, valid: Iterable[str]) -> list[dict[str, Any]]:
        """Return a section that is a list of mappings, empty where the file has none; refuse unknown keys."""
        entries = self.content.get(name)
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise self.make_error(f"{name} must be a list of mappings of {', '.join(valid)}; got {entries!r}", name)
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry:
                message = f"each of {name} must be a mapping of {', '.join(valid)}; got {entry!r}"
                raise self.make_error(message, name, str(number))
            self.check_keys(entry, valid, f" in {name}", name, str(number))
        return entries

    def read_entries(self, name: str) -> dict[str, Any]:
        """Return the section `name` of ENTRIES; refuse an invalid value."""
        return self._check_entries(name, ENTRIES[name], self.read_section(name, ENTRIES[name]), name)

    def read_listed_entries(self, name: str) -> list[dict[str, Any]]:
        """Return the section `name` of LISTED_ENTRIES; refuse an invalid value."""
        entries = LISTED_ENTRIES[name]
        return [
            self._check_entries(name, entries, _rename_metric(given), name, str(number))
            for number, given in enumerate(self.read_list(name, entries))
        ]

    def _check_entries(
        self, name: str, entries: Mapping[str, Entry], given: dict[str, Any], *place: str
    ) -> dict[str, Any]:
        return {
            key: self.check_entry(entry, given.get(key), f"{name}.{key}", *place, key)
            for key, entry in entries.items()
            if key in given or entry.required
        }

    def check_entry(self, entry: Entry, value: Any, label: str, *place: str) -> Any:
        """Return a value, as an integer where `entry` is a whole number; refuse an invalid one."""
        if entry.accepts(value):
            return value if entry.choices or not entry.whole else int(value)
        if not entry.choices:
            raise self.make_error(f"{label} must be {entry.valid}; got {value!r}", *place)
        found = f"{label} is missing" if value is None else f"unknown {label} {value!r}"
        raise self.make_error(f"{found}; choose from: {', '.join(entry.choices)}", *place)

    def check_setting(self, name: str, value: Any, *place: str) -> Any:
        """Return a value of a setting, a list as a tuple; refuse an invalid one."""
        try:
            if SETTINGS[name].is_numeric and isinstance(value, str):
                raise SETTINGS[name].make_refusal(value, "", ())
            check(name, value, REGISTRIES)
        except UserError as error:
            raise self.make_error(str(error), *place) from error
        return tuple(value) if isinstance(value, list) else value

    def check_member(self, name: str, value: Any, *place: str) -> Any:
        """Return a single value of a setting, of a set one of its names; refuse an invalid one."""
        if isinstance(value, list):
            message = f"{name} takes single values here, not lists (subset searches sets); got {value!r}"
            raise self.make_error(message, *place)
        return self.check_setting(name, value, *place)


def _rename_metric(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of a list, with the present name of its metric in place of one of version 0.1."""
    former = entry.get("metric")
    return entry | {"metric": FORMER_NAMES[former]} if former in list(FORMER_NAMES) else entry


def _parse_yaml(path: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """Return a text as YAML nodes, which have their lines, and as values.

    Raises:
        SearchSpaceError: it is not YAML, too long, or has aliases, with which a few lines make billions of values.
    """
    if len(text) > MAX_FILE_CHARACTERS:
        raise SearchSpaceError(f"{path}: {len(text):,} characters; a search space has at most {MAX_FILE_CHARACTERS:,}")
    try:
        for token in yaml.scan(text, Loader=YamlLoader) if "*" in text else ():
            if isinstance(token, yaml.AliasToken):
                line = token.start_mark.line + 1
                message = f"{path}:{line}: a search space cannot have an alias (*{token.value}); write the value out"
                raise SearchSpaceError(message)
        return yaml.compose(text, Loader=YamlLoader), yaml.load(text, Loader=YamlLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise SearchSpaceError(f"{path}{line}: not YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise SearchSpaceError(f"{path}: nested too deeply for a search space") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # from the constructors of dates and tags
        raise SearchSpaceError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
