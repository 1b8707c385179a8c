"""The axes of a search-space file: domains, steps, and the conditions under which an axis exists."""

import itertools
from typing import Any

from ser_platform.settings import OF_A_STUDY, SETTINGS, Overrides, check
from ser_platform.tuning.search_space.space import SUBSET_SEPARATOR, Axis
from ser_platform.tuning.search_space.yaml_source import YamlSource

DOMAINS = ("choice", "subset", "uniform", "loguniform", "int", "fixed")
MAX_CHOICES, MAX_SUBSET_MEMBERS, MAX_STEPS = 1000, 12, 10**9
STEPPED_DOMAINS = ("uniform", "int")


def read_axes(source: YamlSource, base: Overrides) -> tuple[Axis, ...]:
    """Return the axes of a file, parents before the axes that depend on them.

    Raises:
        SpaceError: an axis or a condition cannot be; names the line.
    """
    section = source.read_section("space", tuple(name for name in SETTINGS if name not in OF_A_STUDY))
    axes = {name: _read_axis(source, name, entry) for name, entry in section.items()}
    ordered: list[Axis] = []
    for name in axes:
        _append_after_parents(source, name, axes, base, ordered, ())
    for axis in ordered:
        _check_conditions(source, axis, axes, base)
    return tuple(ordered)


def _append_after_parents(
    source: YamlSource, name: str, axes: dict[str, Axis], base: Overrides, ordered: list[Axis], below: tuple[str, ...]
) -> None:
    """Append an axis behind its parents."""
    if axes[name] in ordered:
        return
    if name in below:
        raise source.make_error(f"{name} depends on itself", "space", name, "when")
    for parent in axes[name].when:
        if parent in axes:
            _append_after_parents(source, parent, axes, base, ordered, (*below, name))
        elif parent not in base:
            valid = ", ".join([*axes, *base])
            raise source.make_error(
                f"when: {parent!r} is neither searched nor fixed; choose from: {valid}", "space", name, "when", parent
            )
    ordered.append(axes[name])


def _check_conditions(source: YamlSource, axis: Axis, axes: dict[str, Axis], base: Overrides) -> None:
    """Refuse a condition that no configuration meets."""
    for parent, valid in axis.when.items():
        place = ("space", axis.name, "when", parent)
        for value in valid:
            source.check_setting(parent, value, *place)
            if parent in axes and not _can_equal(axes[parent], value):
                raise source.make_error(
                    f"{axis.name}: {parent} is never {value!r}; it is {axes[parent].description}", *place
                )
        if parent not in axes and not set(_as_list(base[parent])) & set(valid):
            raise source.make_error(
                f"{axis.name}: {parent} is never {_format_values(valid)}; it is fixed: {base[parent]!r}", *place
            )
    for parent, allowed in _collect_requirements(axis, axes).items():
        if not allowed:
            raise source.make_error(
                f"{axis.name} never exists: it and its parents ask for different values of {parent}",
                "space",
                axis.name,
                "when",
            )


def _collect_requirements(axis: Axis, axes: dict[str, Axis]) -> dict[str, set[Any]]:
    """Return the values that each single-valued ancestor may have where the axis exists."""
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


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _format_values(values: tuple[Any, ...]) -> str:
    return " or ".join(repr(value) for value in values)


def _read_axis(source: YamlSource, name: str, entry: Any) -> Axis:
    found = [key for key in DOMAINS if isinstance(entry, dict) and key in entry]
    if len(found) != 1:
        raise source.make_error(f"{name} needs one domain of: {', '.join(DOMAINS)}; got {entry!r}", "space", name)
    domain = found[0]
    valid = [domain, *(["step"] if domain in STEPPED_DOMAINS else []), *(["min"] if domain == "subset" else []), "when"]
    for key in entry:
        if key not in (*valid, "step"):
            choices = ", ".join(valid)
            raise source.make_error(f"unknown key {key!r} in {name}; choose from: {choices}", "space", name, str(key))
    values = _read_values(source, name, domain, entry)
    return Axis(
        name, domain, values, _read_step(source, name, domain, values, entry), _read_conditions(source, name, entry)
    )


def _read_conditions(source: YamlSource, name: str, entry: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    when = entry.get("when", {})
    if not isinstance(when, dict) or not all(isinstance(key, str) for key in when):
        raise source.make_error(f"when of {name} must be a mapping from settings to values", "space", name, "when")
    for parent, value in when.items():
        if value == [] or value is None:
            raise source.make_error(
                f"when of {name}: {parent} needs a value, or several", "space", name, "when", parent
            )
    asked = {key: value if isinstance(value, list) else [value] for key, value in when.items()}
    for parent, values in asked.items():
        if any(isinstance(value, list | dict) for value in values) or len(values) > MAX_CHOICES:
            raise source.make_error(
                f"when of {name}: {parent} takes a value, or a list of values", "space", name, "when", parent
            )
    return {key: tuple(values) for key, values in asked.items()}


def _read_step(
    source: YamlSource, name: str, domain: str, values: tuple[Any, ...], entry: dict[str, Any]
) -> float | None:
    if "step" not in entry:
        return None
    step = entry["step"]
    if domain not in STEPPED_DOMAINS or isinstance(step, bool) or not isinstance(step, int | float) or not step > 0:
        message = f"step of {name} must be a number above 0 under uniform or int; got {step!r}"
        raise source.make_error(message, "space", name, "step")
    if step > values[1] - values[0]:
        raise source.make_error(f"step of {name} is wider than its range {list(values)}", "space", name, "step")
    if domain == "int" and step != int(step):
        raise source.make_error(f"step of {name} must be a whole number under int; got {step!r}", "space", name, "step")
    steps = (values[1] - values[0]) / step
    if steps > MAX_STEPS:
        raise source.make_error(f"step of {name} makes more than {MAX_STEPS:,} values", "space", name, "step")
    if abs(steps - round(steps)) > 1e-6:
        raise source.make_error(f"step of {name} does not divide its range {list(values)}", "space", name, "step")
    return float(step)


def _read_values(source: YamlSource, name: str, domain: str, entry: dict[str, Any]) -> tuple[Any, ...]:
    given, place = entry[domain], ("space", name)
    if domain == "fixed":
        return (source.check_setting(name, given, *place),)
    if not isinstance(given, list) or not given:
        raise source.make_error(f"{domain} of {name} must be a list that is not empty; got {given!r}", *place)
    for number, value in enumerate(given):
        source.check_setting(name, value, *place, domain, str(number))
    if domain == "choice":
        return _read_choices(source, name, given)
    if domain == "subset":
        return _make_subsets(source, name, given, entry.get("min", 1))
    return _read_range(source, name, domain, given)


def _read_choices(source: YamlSource, name: str, given: list[Any]) -> tuple[Any, ...]:
    if any(isinstance(value, list) for value in given):
        raise source.make_error(f"choice of {name} takes single values; use subset for sets", "space", name)
    if len(given) > MAX_CHOICES:
        raise source.make_error(f"choice of {name} has {len(given):,} values, more than {MAX_CHOICES:,}", "space", name)
    doubled = [value for number, value in enumerate(given) if value in given[:number]]
    if doubled:
        raise source.make_error(f"choice of {name} has {doubled[0]!r} twice", "space", name)
    # Numbers like 1e-3 are words to YAML.
    return tuple(check(name, value) if SETTINGS[name].is_numeric else value for value in given)


def _make_subsets(source: YamlSource, name: str, given: list[Any], smallest: Any) -> tuple[str, ...]:
    if "waveform" in given and len(given) > 1:
        raise source.make_error(f"subset of {name}: waveform has another frame rate and stands alone", "space", name)
    if not all(isinstance(member, str) for member in given):
        raise source.make_error(f"subset of {name} takes names; got {given!r}", "space", name)
    if len(given) > MAX_SUBSET_MEMBERS:
        message = (
            f"subset of {name} has {len(given)} members, which make 2^{len(given)} sets; at most {MAX_SUBSET_MEMBERS}"
        )
        raise source.make_error(message, "space", name)
    whole = isinstance(smallest, int) and not isinstance(smallest, bool)
    sizes = range(smallest, len(given) + 1) if whole else range(0)
    if not isinstance(SETTINGS[name].default, tuple) or not sizes or sizes[0] < 1 or len(set(given)) < len(given):
        raise source.make_error(f"subset of {name} with min {smallest!r} draws nothing valid", "space", name)
    return tuple(SUBSET_SEPARATOR.join(part) for size in sizes for part in itertools.combinations(given, size))


def _read_range(source: YamlSource, name: str, domain: str, given: list[Any]) -> tuple[Any, ...]:
    place = ("space", name)
    numbers = [value for value in (check(name, value) for value in given) if isinstance(value, int | float)]
    if len(numbers) != 2 or not SETTINGS[name].is_numeric or not numbers[0] < numbers[1]:
        raise source.make_error(f"{domain} of {name} must be [low, high] with low < high; got {given}", *place)
    is_whole = SETTINGS[name].kind == "whole"
    if is_whole and domain == "uniform":
        raise source.make_error(
            f"{name} is a whole number; search it with int, loguniform or choice, not uniform", *place
        )
    if domain == "int" and any(number != int(number) for number in numbers):
        raise source.make_error(f"int of {name} must be [low, high] in whole numbers; got {given}", *place)
    if domain == "loguniform" and numbers[0] <= 0:
        raise source.make_error(f"loguniform of {name} must start above 0; got {given}", *place)
    kind = int if domain == "int" or is_whole else float
    return tuple(kind(number) for number in numbers)
