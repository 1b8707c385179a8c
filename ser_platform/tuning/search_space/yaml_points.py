"""The points of a search-space file: configurations that are tried first."""

from typing import Any

from ser_platform.settings import Overrides, SettingValue, as_json
from ser_platform.tuning.search_space.space import Axis
from ser_platform.tuning.search_space.yaml_source import YamlSource


def read_points(source: YamlSource, axes: tuple[Axis, ...], base: Overrides) -> tuple[Overrides, ...]:
    """Return the points of a file; a setting that one leaves out is drawn.

    Raises:
        SpaceError: a point is not of the space; names its line.
    """
    entries = source.read_entries("points", tuple(axis.name for axis in axes), "{setting: value}")
    points: list[Overrides] = [{name: _without_lists(value) for name, value in entry.items()} for entry in entries]
    for number, point in enumerate(points):
        for axis in axes:
            if axis.name in point:
                _check_point(
                    source, axis, point, {each.name: each for each in axes}, base, ("points", str(number), axis.name)
                )
        if point in points[:number]:
            raise source.make_error(f"this point stands twice: {as_json(point)}", "points", str(number))
    return tuple(points)


def _without_lists(value: Any) -> SettingValue:
    return tuple(value) if isinstance(value, list) else value


def _check_point(
    source: YamlSource,
    axis: Axis,
    point: Overrides,
    axes: dict[str, Axis],
    base: Overrides,
    place: tuple[str, ...],
) -> None:
    try:
        axis.encode(point[axis.name])
    except ValueError as error:
        raise source.make_error(str(error), *place) from error
    known = dict(base)
    for parent in axis.when:
        if parent in axes and axes[parent].domain == "fixed":
            known[parent] = axes[parent].values[0]
        elif parent in axes and parent not in point:
            raise source.make_error(f"{axis.name} exists under some values of {parent} only: give {parent} too", *place)
    if not axis.is_active(point, known):
        conditions = "; ".join(f"{parent}: {', '.join(map(str, valid))}" for parent, valid in axis.when.items())
        raise source.make_error(f"{axis.name} exists only under {conditions}", *place)
