"""Reads the axes of a search-space file: domains, steps, and the conditions under which an axis exists."""

import itertools
import reprlib
from functools import partial
from typing import Any

from ser_platform.errors import SearchSpaceError
from ser_platform.settings import OF_A_STUDY, SETTINGS, Overrides, check
from ser_platform.settings.table import NOUNS
from ser_platform.training.used_settings import DECIDING_SETTINGS
from ser_platform.tuning.search_space.space import SUBSET_SEPARATOR, Axis, is_met
from ser_platform.tuning.search_space.space_sections import DOMAINS, MAX_CHOICES, OPTIONS
from ser_platform.tuning.search_space.yaml_source import YamlSource, suggest_word

MAX_STEPS = 10**9


def read_axes(source: YamlSource, base: Overrides) -> tuple[Axis, ...]:
    """Return the valid axes of a file, parents before the axes that depend on them; report the others.

    An axis also comes after those that decide whether its setting has an effect.
    """
    section = source.read_settings("space", [name for name in SETTINGS if name not in OF_A_STUDY])
    read = {name: source.attempt(partial(_read_axis, source, name, entry), None) for name, entry in section.items()}
    axes = {name: axis for name, axis in read.items() if axis is not None}
    ordered: list[Axis] = []
    try:
        for name in (*(each for each in DECIDING_SETTINGS if each in axes), *axes):
            _append_after_parents(source, name, axes, base, ordered, ())
    except SearchSpaceError as circle:
        source.problems.append(circle)
        return ()
    for axis in ordered:
        _check_conditions(source, axis, axes, base)
    return tuple(ordered)


def _append_after_parents(
    source: YamlSource, name: str, axes: dict[str, Axis], base: Overrides, ordered: list[Axis], below: tuple[str, ...]
) -> None:
    """Append an axis to `ordered` after its parents; `below` are the axes that depend on it.

    Raises:
        SearchSpaceError: an axis depends on itself.
    """
    if axes[name] in ordered:
        return
    if name in below:
        raise source.make_error(f"{name} depends on itself", "space", name, "when")
    for parent in axes[name].when:
        if parent in axes:
            _append_after_parents(source, parent, axes, base, ordered, (*below, name))
        elif parent not in source.list_given("base", "space"):
            valid = ", ".join([*axes, *base])
            message = f"when: {parent!r} is neither searched nor fixed{suggest_word(parent, [*axes, *base])}"
            source.report(f"{message}; choose from: {valid}", "space", name, "when", parent)
    ordered.append(axes[name])


def _check_conditions(source: YamlSource, axis: Axis, axes: dict[str, Axis], base: Overrides) -> None:
    """Report a condition that no configuration meets."""
    n_problems = len(source.problems)
    for parent, valid in axis.when.items():
        place = ("space", axis.name, "when", parent)
        for value in valid if parent in axes or parent in base else ():  # else the parent is reported
            checked = source.attempt(partial(source.check_member, parent, value, *place), None)
            if checked is not None and parent in axes and not _can_equal(axes[parent], value):
                source.report(f"{axis.name}: {parent} is never {value!r}; it is {axes[parent].description}", *place)
        is_fixed = parent in base and parent not in axes and len(source.problems) == n_problems
        if is_fixed and not is_met(base[parent], valid):
            never = " or ".join(map(repr, valid))
            source.report(f"{axis.name}: {parent} is never {never}; it is fixed: {base[parent]!r}", *place)
    if len(source.problems) > n_problems:
        return
    for parent, allowed in _collect_requirements(axis, axes).items():
        if not allowed:
            message = f"{axis.name} never exists: it and its parents require different values of {parent}"
            source.report(message, "space", axis.name, "when")


def _collect_requirements(axis: Axis, axes: dict[str, Axis]) -> dict[str, set[Any]]:
    """Return the valid values of each ancestor that is not a set, where the axis exists."""
    needed: dict[str, set[Any]] = {}
    for parent, valid in axis.when.items():
        if parent in axes and axes[parent].domain == "subset":
            continue  # a set can hold several of them
        above = _collect_requirements(axes[parent], axes) if parent in axes else {}
        for name, allowed in [*above.items(), (parent, set(valid))]:
            needed[name] = needed[name] & allowed if name in needed else allowed
    return needed


def _can_equal(axis: Axis, value: Any) -> bool:
    if axis.domain == "subset":
        return any(value in members.split(SUBSET_SEPARATOR) for members in axis.values)
    try:
        axis.encode(value)
    except ValueError:
        return False
    return True


def _read_axis(source: YamlSource, name: str, entry: Any) -> Axis | None:
    """Return an axis, None where several of its values are reported.

    Raises:
        SearchSpaceError: it is invalid as a whole.
    """
    found = [key for key in DOMAINS if isinstance(entry, dict) and key in entry]
    if len(found) != 1:
        words = entry if isinstance(entry, dict) and not found else ()
        meant = next((near for word in words if (near := suggest_word(word, DOMAINS))), "")
        message = f"{name} needs one domain of: {', '.join(DOMAINS)}; got {entry!r}{meant}"
        raise source.make_error(message, "space", name)
    (domain,) = found
    entry = source.drop_unknown(entry, (domain, *DOMAINS[domain].options, "when"), f" in {name}", "space", name)
    kind = SETTINGS[name].kind
    if kind not in DOMAINS[domain].kinds:
        valid = " or ".join(each for each in DOMAINS if kind in DOMAINS[each].kinds)
        raise source.make_error(f"{name} is {NOUNS[kind]}; search it with {valid}, not {domain}", "space", name)
    values = _read_values(source, name, domain, entry)
    if not values:
        return None
    step = _read_step(source, name, domain, values, entry["step"]) if "step" in entry else None
    return Axis(name, domain, values, step, _read_conditions(source, name, entry.get("when", {})))


def _read_conditions(source: YamlSource, name: str, when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, dict) or not all(isinstance(key, str) for key in when):
        raise source.make_error(f"when of {name} must be a mapping from settings to values", "space", name, "when")
    conditions = {parent: tuple(value if isinstance(value, list) else [value]) for parent, value in when.items()}
    for parent, values in conditions.items():
        if not 1 <= len(values) <= MAX_CHOICES:
            message = f"when of {name}: {parent} must be a value, or a list of 1 to {MAX_CHOICES:,}"
            raise source.make_error(message, "space", name, "when", parent)
    return conditions


def _read_step(source: YamlSource, name: str, domain: str, values: tuple[Any, ...], given: Any) -> float:
    label, place = f"step of {name}", ("space", name, "step")
    step = source.check_entry(OPTIONS["step"], given, label, *place)
    width = values[1] - values[0]
    if step > width:
        raise source.make_error(f"{label} is wider than its range {list(values)}", *place)
    if domain == "int" and step != int(step):
        raise source.make_error(f"{label} must be a whole number under int; got {step!r}", *place)
    steps = width / step
    if steps > MAX_STEPS:
        raise source.make_error(f"{label} makes more than {MAX_STEPS:,} values", *place)
    if abs(steps - round(steps)) > 1e-6:
        raise source.make_error(f"{label} does not divide its range {list(values)}", *place)
    return float(step)


def _read_values(source: YamlSource, name: str, domain: str, entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of a domain, () where some of them are reported."""
    given, place, limits = entry[domain], ("space", name), DOMAINS[domain]
    if domain == "fixed":
        return (source.check_setting(name, given, *place),)
    if not isinstance(given, list) or not limits.least <= len(given) <= limits.most:
        valid = f"a list of 1 to {limits.most:,} values" if limits.end is None else "[low, high] with low < high"
        raise source.make_error(f"{domain} of {name} must be {valid}; got {reprlib.repr(given)}", *place)
    n_problems = len(source.problems)
    for number, value in enumerate(given):
        source.attempt(partial(_check_value, source, name, domain, value, number), None)
        if limits.end is None and value in given[:number]:
            source.report(f"{domain} of {name} has {value!r} twice", *place)
    if len(source.problems) > n_problems:
        return ()
    if domain == "subset":
        return _make_subsets(source, name, given, entry.get("min", 1))
    values: tuple[Any, ...] = tuple(check(name, value) if SETTINGS[name].is_numeric else value for value in given)
    if limits.end is None:
        return values
    if not values[0] < values[1]:
        raise source.make_error(f"{domain} of {name} must be [low, high] with low < high; got {given}", *place)
    is_whole = domain == "int" or SETTINGS[name].kind == "whole"
    return tuple(int(value) if is_whole else value for value in values)


def _check_value(source: YamlSource, name: str, domain: str, value: Any, number: int) -> None:
    place, end = ("space", name, domain, str(number)), DOMAINS[domain].end
    source.check_member(name, value, *place)
    if end is not None:
        source.check_entry(end, value, f"{domain} of {name}", *place)


def _make_subsets(source: YamlSource, name: str, given: list[str], smallest: Any) -> tuple[str, ...]:
    if "waveform" in given and len(given) > 1:
        message = f"subset of {name}: waveform has another frame rate and cannot be combined; search it with choice"
        raise source.make_error(message, "space", name)
    smallest = source.check_entry(OPTIONS["min"], smallest, f"min of {name}", "space", name, "min")
    if smallest > len(given):
        message = f"min {smallest} of {name} is above the {len(given)} names of its subset"
        raise source.make_error(message, "space", name, "min")
    sizes = range(smallest, len(given) + 1)
    return tuple(SUBSET_SEPARATOR.join(part) for size in sizes for part in itertools.combinations(given, size))
