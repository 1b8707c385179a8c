"""Reads the points of a search-space file: configurations that are tried first."""

from ser_platform.settings import Overrides, as_json
from ser_platform.tuning.search_space.space import Axis
from ser_platform.tuning.search_space.yaml_source import YamlSource


def read_points(source: YamlSource, axes: tuple[Axis, ...], base: Overrides) -> tuple[Overrides, ...]:
    """Return the points of a file.

    Raises:
        SearchSpaceError: a point is not in the space; names its line.
    """
    by_name = {axis.name: axis for axis in axes}
    points: list[Overrides] = []
    for number, entry in enumerate(source.read_list("points", by_name)):
        place = ("points", str(number))
        point = {name: source.check_setting(name, value, *place, name) for name, value in entry.items()}
        for name in point:
            _check_point(source, by_name[name], point, by_name, base, (*place, name))
        if point in points:
            raise source.make_error(f"this point is listed twice: {as_json(point)}", *place)
        points.append(point)
    return tuple(points)


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
            raise source.make_error(f"{axis.name} exists only under some values of {parent}: set {parent} too", *place)
    if not axis.meets_conditions(point, known):
        conditions = "; ".join(f"{parent}: {', '.join(map(str, valid))}" for parent, valid in axis.when.items())
        raise source.make_error(f"{axis.name} exists only under {conditions}", *place)
