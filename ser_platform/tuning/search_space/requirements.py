"""What the trials of a search space can ask for: feature families, copies, teacher outputs, unlabelled speech."""

from collections.abc import Iterable, Iterator
from typing import Any

from ser_platform.errors import UserError
from ser_platform.evaluation.baseline import POOLED
from ser_platform.features.views.loudness import RMS
from ser_platform.settings import Settings, resolve
from ser_platform.training.configuration import heard_sets
from ser_platform.training.hint_loss import OFF
from ser_platform.tuning.search_space.space import Axis, Space

OF_HEARING = ("model.name", "features.sets", "model.backbone", "model.tuning", "model.pooling")


OF_LEVEL = ("data.trim_db", "data.level_dbfs")  # where they are not 0, levels are read beside the feature sets


def needed_families(spaces: Iterable[Space]) -> tuple[str, ...]:
    """Return the feature families that any trial of these spaces, and the baseline beside them, can read."""
    return tuple(dict.fromkeys((*POOLED, *heard_families(spaces))))


def heard_families(spaces: Iterable[Space]) -> tuple[str, ...]:
    """Return the feature families that any trial of these spaces can read."""
    needed: list[str] = []
    for space in spaces:
        needed += [name for settings in hearing(space) for name in heard_sets(settings)]
        if any(value for setting in OF_LEVEL for value in _options(space, setting)):
            needed.append(RMS)
    return tuple(dict.fromkeys(needed))


def hearing(space: Space) -> Iterator[Settings]:
    """Yield the settings that decide what a trial's model hears, every combination that there can be."""
    drawn: list[Settings] = [{}]
    for axis in (axis for axis in space.axes if axis.name in OF_HEARING):  # parents come first
        decided = all(parent in OF_HEARING or parent in space.base for parent in axis.when)
        values = _values(axis)
        with_it = [params for params in drawn if not decided or axis.applies(params, space.base)]
        without = [params for params in drawn if axis.when and not (decided and axis.applies(params, space.base))]
        drawn = [params | {axis.name: value} for params in with_it for value in values] + without
    rest = {setting: space.fixed(setting) for setting in OF_HEARING}
    for params in drawn:
        yield resolve(rest | params)


def copies_of(space: Space) -> list[tuple[str, int]]:
    """Return the recipes that a trial can take copies from, and the most copies of a clip that it can ask for."""
    most = max(_options(space, "augment.copies"))
    return [(recipe, most) for recipe in dict.fromkeys(_options(space, "augment.recipe"))] if most else []


def outputs_of(space: Space) -> tuple[str, ...]:
    """Return the kinds of teacher outputs that a trial can ask for."""
    return tuple(dict.fromkeys(_options(space, "distill.outputs")))


def unlabelled_of(space: Space) -> str:
    """Return the speech without labels that a trial can ask for; "" where none can.

    Raises:
        UserError: trials can ask for several.
    """
    names = sorted({str(name) for name in _options(space, "distill.unlabelled")} - {""})
    if len(names) > 1:
        raise UserError(f"{space.name}: distill.unlabelled is {' or '.join(names)}; a study can have one")
    return names[0] if names else ""


def has_hints(space: Space) -> bool:
    """Tell whether a trial can ask for a teacher's embeddings."""
    return set(_options(space, "distill.hint")) != {OFF}


def _options(space: Space, setting: str) -> list[Any]:
    """Return the values of a setting that a trial can have; of a range, its ends."""
    axis = next((axis for axis in space.axes if axis.name == setting), None)
    values = [] if axis is None else _values(axis)
    return values if axis is not None and not axis.when else [*values, space.fixed(setting)]


def _values(axis: Axis) -> list[Any]:
    """Return the values that an axis can have; of a range, its ends."""
    return [resolve({axis.name: axis.read(value)})[axis.name] for value in axis.values]
