"""The content of a search-space file with the line of every key and entry, and the checks of single values."""

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ser_platform.errors import SearchSpaceError, UserError
from ser_platform.settings import SETTINGS, check
from ser_platform.settings.suggestions import ALL_SETTINGS, describe_unknown_setting, suggest_settings
from ser_platform.settings.yaml_loader import YamlLoader
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.search_space.space_sections import ENTRIES, LISTED_ENTRIES, OTHER_WORDS, SECTIONS, Entry
from ser_platform.tuning.search_space.trial_metrics import FORMER_NAMES

MAX_FILE_CHARACTERS = 200_000
Value = TypeVar("Value")


class YamlSource:
    """The content of one file. A place is a path in it: a section, a key or the number of an entry, a key.

    `read_*` return what is valid, and report the rest; `check_*` raise SearchSpaceError with the line of what is
    invalid, which `attempt` reports. `raise_problems` raises all that was reported.

    Raises:
        SearchSpaceError: the file is not YAML, or not a mapping.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        self.problems: list[SearchSpaceError] = []
        node, self.content = _parse_yaml(path, text)
        if not isinstance(self.content, dict):
            raise SearchSpaceError(f"{path}: a search space is a mapping of {', '.join(SECTIONS)}")
        self._record_lines(node, ())
        self.drop_unknown(self.content, SECTIONS, "")

    def _record_lines(self, node: yaml.Node | None, place: tuple[str, ...]) -> None:
        if isinstance(node, yaml.SequenceNode):
            for number, entry in enumerate(node.value):
                self.lines[(*place, str(number))] = entry.start_mark.line + 1
                self._record_lines(entry, (*place, str(number)))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if (*place, str(key.value)) in self.lines:
                    message = f"{key.value!r} is given twice; remove one"
                    self.problems.append(self._make_error(message, place, key.start_mark.line + 1))
                    continue
                self.lines[(*place, str(key.value))] = key.start_mark.line + 1
                self._record_lines(value, (*place, str(key.value)))

    def make_error(self, message: str, *place: str) -> SearchSpaceError:
        """Return an error with the line of a place, or of the nearest place above it that has one."""
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), 0)
        return self._make_error(message, place, line)

    def _make_error(self, message: str, place: tuple[str, ...], line: int) -> SearchSpaceError:
        where = f"{self.path}:{line}" if line else self.path
        return SearchSpaceError(f"{where}: {message}", section=place[0] if place else "", line=line)

    def report(self, message: str, *place: str) -> None:
        """Add a mistake to the problems of the file."""
        self.problems.append(self.make_error(message, *place))

    def attempt(self, read: Callable[[], Value], instead: Value) -> Value:
        """Return what `read` returns; where it raises SearchSpaceError, report that and return `instead`."""
        try:
            return read()
        except SearchSpaceError as error:
            self.problems.append(error)
            return instead

    def is_valid(self, *sections: str) -> bool:
        """Return whether nothing was reported in these sections."""
        return not any(problem.section in sections for problem in self.problems)

    def raise_problems(self) -> None:
        """Raise SearchSpaceError with every reported mistake, in the order of the file, if there is one."""
        if self.problems:
            ordered = sorted(self.problems, key=lambda problem: problem.line)
            raise SearchSpaceError(*(line for problem in ordered for line in problem.lines), line=ordered[0].line)

    def drop_unknown(
        self, section: Mapping[Any, Any], valid: Collection[str], where: str, *place: str
    ) -> dict[str, Any]:
        """Return a mapping without the keys that are not among `valid`; `where` names it in the reports."""
        for key in section:
            if key not in valid:
                advice = f"{suggest_word(key, valid)}; choose from: {', '.join(valid)}"
                if not place and key in SETTINGS:
                    advice = "; it is a setting: move it to base, or to space with a domain"
                self.report(f"unknown key {key!r}{where}{advice}", *place, str(key))
        return {key: value for key, value in section.items() if key in valid}

    def read_settings(self, name: str, valid: Collection[str]) -> dict[str, Any]:
        """Return a section whose keys are settings, without unknown ones; empty where the file has none."""
        section = self.content.get(name)
        if section is not None and not isinstance(section, dict):
            self.report(f"{name} must be a mapping of settings; got {section!r}; {ALL_SETTINGS}", name)
            return {}
        for key in section or {}:
            if key in SETTINGS and key not in valid:
                self.report(f"{key} is the same in all trials of a study; move it to base", name, str(key))
            elif key not in valid:
                advice = describe_unknown_setting(str(key), valid)
                self.report(f"unknown key {key!r} in {name}; {advice}", name, str(key))
        return {key: value for key, value in (section or {}).items() if key in valid}

    def list_given(self, *sections: str) -> list[str]:
        """Return the keys of sections that are mappings, the invalid ones too."""
        return [name for each in sections if isinstance(self.content.get(each), dict) for name in self.content[each]]

    def read_values(self, given: Mapping[str, Any], *place: str) -> dict[str, Any]:
        """Return those of the settings at a place that have valid values; report the others."""
        found = {}
        for name, value in given.items():
            try:
                found[name] = self.check_setting(name, value, *place, name)
            except SearchSpaceError as error:
                self.problems.append(error)
        return found

    def read_list(self, name: str, valid: Collection[str]) -> dict[int, dict[str, Any]]:
        """Return the mappings in a section that is a list, by number, without unknown keys."""
        entries = self.content.get(name)
        if entries is not None and not isinstance(entries, list):
            self.report(f"{name} must be a list of mappings of {', '.join(valid)}; got {entries!r}", name)
            return {}
        found = {}
        for number, entry in enumerate(entries or ()):
            if isinstance(entry, dict) and entry:
                found[number] = self.drop_unknown(entry, valid, f" in {name}", name, str(number))
            else:
                message = f"each of {name} must be a mapping of {', '.join(valid)}; got {entry!r}"
                self.report(message, name, str(number))
        return found

    def read_entries(self, name: str) -> dict[str, Any]:
        """Return the valid entries of the section `name` of ENTRIES."""
        section = self.content.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self.report(f"{name} must be a mapping of {', '.join(ENTRIES[name])}; got {section!r}", name)
            return {}
        return self._read_entries(
            name, ENTRIES[name], self.drop_unknown(section, ENTRIES[name], f" in {name}", name), name
        )

    def read_listed_entries(self, name: str) -> dict[int, dict[str, Any]]:
        """Return the wholly valid entries of the section `name` of LISTED_ENTRIES, by number."""
        entries = LISTED_ENTRIES[name]
        found: dict[int, dict[str, Any]] = {}
        for number, given in self.read_list(name, entries).items():
            n_problems = len(self.problems)
            entry = self._read_entries(name, entries, _rename_metric(given), name, str(number))
            if len(self.problems) == n_problems:
                found[number] = entry
        return found

    def _read_entries(
        self, name: str, entries: Mapping[str, Entry], given: dict[str, Any], *place: str
    ) -> dict[str, Any]:
        found = {}
        for key, entry in entries.items():
            if key in given or entry.required:
                try:
                    found[key] = self.check_entry(entry, given.get(key), f"{name}.{key}", *place, key)
                except SearchSpaceError as error:
                    self.problems.append(error)
        return found

    def check_entry(self, entry: Entry, value: Any, label: str, *place: str) -> Any:
        """Return a value, as an integer where `entry` is a whole number; refuse an invalid one."""
        if entry.accepts(value):
            return value if entry.choices or not entry.whole else int(value)
        if not entry.choices:
            raise self.make_error(f"{label} must be {entry.valid}; got {value!r}", *place)
        found = (
            f"{label} is missing" if value is None else f"unknown {label} {value!r}{suggest_word(value, entry.choices)}"
        )
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


def suggest_word(given: object, choices: Collection[str]) -> str:
    """Return " (did you mean WORD?)" for the choice that an unknown word means, "" where none is near."""
    word = str(given).strip().lower().replace("-", "_")
    meant = [each for each in OTHER_WORDS.get(word, ()) if each in choices] or suggest_settings(word, choices)
    near = meant or difflib.get_close_matches(word, choices, 1)
    return f" (did you mean {near[0]}?)" if near else ""


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
        loader = YamlLoader(text)
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise SearchSpaceError(f"{path}{line}: not YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise SearchSpaceError(f"{path}: nested too deeply for a search space") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # from the constructors of dates and tags
        raise SearchSpaceError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
