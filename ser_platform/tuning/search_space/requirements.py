"""The feature families, copies, teacher outputs and unlabelled speech that the trials of a search space can need."""

from collections.abc import Iterable, Iterator
from typing import Any

from ser_platform.errors import UserError
from ser_platform.evaluation.baseline import BASELINE_SETS
from ser_platform.features.views.loudness import RMS_FAMILY
from ser_platform.settings import Settings, SettingValue, check, resolve
from ser_platform.training.configuration import resolve_feature_sets
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.tuning.search_space.space import Axis, Space

MODEL_INPUT_SETTINGS = ("model.name", "features.sets", "model.backbone", "model.tuning", "model.pooling")
LEVEL_SETTINGS = ("data.trim_db", "data.level_dbfs")  # where one is not 0, trials read RMS levels too


def list_needed_families(spaces: Iterable[Space]) -> tuple[str, ...]:
    """Return the feature families that the trials of these spaces and the baseline can read."""
    return tuple(dict.fromkeys((*BASELINE_SETS, *list_input_families(spaces))))


def list_input_families(spaces: Iterable[Space]) -> tuple[str, ...]:
    """Return the feature families that the trials of these spaces can read."""
    needed: list[str] = []
    for space in spaces:
        needed += [name for settings in iterate_input_settings(space) for name in resolve_feature_sets(settings)]
        if any(value for setting in LEVEL_SETTINGS for value in _list_values(space, setting)):
            needed.append(RMS_FAMILY)
    return tuple(dict.fromkeys(needed))


def iterate_input_settings(space: Space) -> Iterator[Settings]:
    """Yield settings with every combination of MODEL_INPUT_SETTINGS that a trial can have."""
    drawn: list[dict[str, SettingValue]] = [{}]
    for axis in (axis for axis in space.axes if axis.name in MODEL_INPUT_SETTINGS):  # parents come first
        decided = all(parent in MODEL_INPUT_SETTINGS or parent in space.base for parent in axis.when)
        values = _list_axis_values(axis)
        with_it = [params for params in drawn if not decided or axis.is_active(params, space.base)]
        without = [params for params in drawn if not (decided and axis.is_active(params, space.base))]
        drawn = [params | {axis.name: value} for params in with_it for value in values] + without
    rest = {setting: space.fixed_settings.value(setting) for setting in MODEL_INPUT_SETTINGS}
    for params in drawn:
        yield resolve(rest | params)


def list_copy_recipes(space: Space) -> list[tuple[str, int]]:
    """Return each copy recipe of the trials with the largest number of copies of a clip; empty without copies."""
    most = max(_list_values(space, "augment.copies"))
    return [(recipe, most) for recipe in dict.fromkeys(_list_values(space, "augment.recipe"))] if most else []


def list_output_modes(space: Space) -> tuple[str, ...]:
    """Return the kinds of teacher outputs (`distill.outputs`) that a trial can have."""
    return tuple(dict.fromkeys(_list_values(space, "distill.outputs")))


def find_unlabelled_name(space: Space) -> str:
    """Return the unlabelled speech (`distill.unlabelled`) that trials can use; "" for none.

    Raises:
        UserError: trials differ in it.
    """
    names = sorted({str(name) for name in _list_values(space, "distill.unlabelled")} - {""})
    if len(names) > 1:
        raise UserError(f"{space.name}: distill.unlabelled is {' or '.join(names)}; choose one for the whole study")
    return names[0] if names else ""


def may_use_hints(space: Space) -> bool:
    """Return whether a trial can use hints, which need a teacher's embeddings."""
    return set(_list_values(space, "distill.hint")) != {NO_HINT}


def _list_values(space: Space, setting: str) -> list[Any]:
    """Return the values of a setting that a trial can have; for a range, both ends."""
    axis = next((axis for axis in space.axes if axis.name == setting), None)
    values = [] if axis is None else _list_axis_values(axis)
    return values if axis is not None and not axis.when else [*values, space.fixed_settings.value(setting)]


def _list_axis_values(axis: Axis) -> list[Any]:
    """Return the values that an axis can have; for a range, both ends."""
    return [check(axis.name, axis.decode(value)) for value in axis.values]
