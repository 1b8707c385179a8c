"""Reads the points of a search-space file: configurations that are tried first."""

from ser_platform.settings import Overrides, as_json
from ser_platform.tuning.search_space.space import Axis
from ser_platform.tuning.search_space.yaml_source import YamlSource


def read_points(source: YamlSource, axes: tuple[Axis, ...], base: Overrides) -> tuple[Overrides, ...]:
    """Return the points of a file; report those that are not in the space."""
    by_name = {axis.name: axis for axis in axes}
    known = dict.fromkeys([*by_name, *source.list_given("space")])  # an invalid axis is reported, and not in `axes`
    points: list[Overrides] = []
    for number, entry in source.read_list("points", known).items():
        place = ("points", str(number))
        point = source.read_values(entry, *place)
        is_valid = len(point) == len(entry)
        for axis in (by_name[name] for name in point if name in by_name):
            try:
                axis.encode(point[axis.name])
            except ValueError as error:
                source.report(str(error), *place, axis.name)
            else:
                if is_valid:
                    _check_conditions(source, axis, point, by_name, base, (*place, axis.name))
        if point in points:
            source.report(f"this point is listed twice: {as_json(point)}", *place)
        points.append(point)
    return tuple(points)


def _check_conditions(
    source: YamlSource,
    axis: Axis,
    point: Overrides,
    axes: dict[str, Axis],
    base: Overrides,
    place: tuple[str, ...],
) -> None:
    """Report an axis that a configuration with the values of `point` does not have."""
    known = {**base, **point}
    for parent in axis.when:
        if parent in axes and axes[parent].domain == "fixed":
            known[parent] = axes[parent].values[0]
        elif parent in axes and parent not in point:
            source.report(f"{axis.name} exists only under some values of {parent}: set {parent} too", *place)
            return
        elif parent not in known:
            return  # the axis of the parent is reported
    if not axis.meets_conditions(known, {}):
        conditions = "; ".join(f"{parent}: {', '.join(map(str, valid))}" for parent, valid in axis.when.items())
        source.report(f"{axis.name} exists only under {conditions}", *place)
