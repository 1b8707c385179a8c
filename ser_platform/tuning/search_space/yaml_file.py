"""Reads search-space files and checks them; an error names the line and the valid choices."""

import math
import re
from pathlib import Path
from typing import Any

from ser_platform.errors import SearchSpaceError
from ser_platform.settings import SETTINGS, Overrides, resolve
from ser_platform.tuning.search_space.space import (
    DEV_UAR,
    Axis,
    Budget,
    Confirmation,
    Constraint,
    Objective,
    Resources,
    SamplerPlan,
    SchedulerPlan,
    Space,
)
from ser_platform.tuning.search_space.space_sections import ASHA, GP, GRID, NO_SCHEDULER, ROLE, SAMPLERS
from ser_platform.tuning.search_space.trial_metrics import TRIAL_METRICS
from ser_platform.tuning.search_space.yaml_axes import read_axes
from ser_platform.tuning.search_space.yaml_points import read_points
from ser_platform.tuning.search_space.yaml_source import YamlSource

MAX_GRID_CONFIGURATIONS = 100_000  # configurations


def find_space_files(folder: Path) -> dict[str, Path]:
    """Return the search-space files of a folder by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(path: Path) -> Space:
    """Return the search space of a file.

    Raises:
        SearchSpaceError: the file cannot be read or something in it is invalid; names the line and the valid choices.
    """
    return parse_space(path, read_space_text(path))


def read_space_text(path: Path) -> str:
    """Return the text of a search-space file.

    Raises:
        SearchSpaceError: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise SearchSpaceError(f"{path}: not a file")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SearchSpaceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SearchSpaceError(f"{path}: not UTF-8 text") from error


def parse_space(path: Path, text: str) -> Space:
    """Return the search space in the text of a file; errors name `path`.

    Raises:
        SearchSpaceError: something in it is invalid; names the line and the valid choices.
    """
    return _build_space(YamlSource(path, text))


def read_question(path: Path) -> str:
    """Return the first line of a search-space file, a comment, without `ser tune NAME:`; "" where it is no comment."""
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip()
    return re.sub(r"^#\s*(ser tune \S+:)?\s*", "", first) if first.startswith("#") else ""


def _build_space(source: YamlSource) -> Space:
    role = source.check_entry(ROLE, source.content.get("role"), "role", "role")
    given = source.read_settings("base", SETTINGS)
    base = {name: source.check_setting(name, value, "base", name) for name, value in given.items()}
    axes = read_axes(source, base)
    space = Space(
        name=source.path.stem,
        role=role,
        base=base,
        axes=axes,
        points=read_points(source, axes, base),
        objectives=_read_objectives(source),
        constraints=_read_constraints(source),
        budget=Budget(**source.read_entries("budget")),
        confirmation=Confirmation(**source.read_entries("confirm")),
        sampler=SamplerPlan(**source.read_entries("sampler")),
        scheduler=_read_scheduler(source, _find_max_epochs(axes, base)),
        resources=_read_resources(source),
    )
    _refuse_contradictions(source, space)
    return space


def _find_max_epochs(axes: tuple[Axis, ...], base: Overrides) -> int:
    """Return the most epochs that a trial of the space can be trained."""
    searched = [max(axis.values) for axis in axes if axis.name == "train.epochs"]
    return int(searched[0] if searched else resolve(base).train.epochs)


def _read_metrics(source: YamlSource, section: str) -> list[dict[str, Any]]:
    """Return the entries of a section, which must differ in their metrics."""
    entries = source.read_listed_entries(section)
    metrics = [entry["metric"] for entry in entries]
    for number, metric in enumerate(metrics):
        if metric in metrics[:number]:
            raise source.make_error(f"{section} has {metric} twice", section, str(number))
    return entries


def _read_objectives(source: YamlSource) -> tuple[Objective, ...]:
    objectives: list[Objective] = []
    for number, entry in enumerate(_read_metrics(source, "objective")):
        metric = entry["metric"]
        valid = TRIAL_METRICS[metric].direction
        if entry.get("direction", valid) != valid:
            message = f"the better {metric}: direction must be {valid}; got {entry['direction']!r}"
            raise source.make_error(message, "objective", str(number), "direction")
        objectives.append(Objective(metric, valid))
    return tuple(objectives) or (DEV_UAR,)


def _read_constraints(source: YamlSource) -> tuple[Constraint, ...]:
    entries = _read_metrics(source, "constraints")
    for number, entry in enumerate(entries):
        if len(entry) == 1 or entry.get("at_least", -math.inf) > entry.get("at_most", math.inf):
            example = f"{{metric: {entry['metric']}, at_most: N}}, at_least: N, or both with at_least <= at_most"
            raise source.make_error(f"a constraint is {example}; got {entry}", "constraints", str(number))
    return tuple(Constraint(**entry) for entry in entries)


def _read_scheduler(source: YamlSource, max_epochs: int) -> SchedulerPlan:
    """Return the scheduler; its default grace is at most `max_epochs`."""
    given = source.read_entries("scheduler")
    plan = SchedulerPlan(**{"grace_epochs": min(SchedulerPlan.grace_epochs, max_epochs)} | given)
    if plan.name != NO_SCHEDULER and plan.grace_epochs > max_epochs:
        grace = f"scheduler.grace_epochs {plan.grace_epochs} is above train.epochs {max_epochs}"
        message = f"{grace}: no trial would be stopped; lower it, or set name: none"
        raise source.make_error(message, "scheduler", "grace_epochs")
    if "brackets" in given and plan.name != ASHA:
        message = f"scheduler {plan.name} has no brackets; remove scheduler.brackets, or set name: asha"
        raise source.make_error(message, "scheduler", "brackets")
    return plan


def _read_resources(source: YamlSource) -> Resources:
    resources = Resources(**source.read_entries("resources"))
    gpus = resources.gpus
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise source.make_error(
            f"resources.gpus must be at most 1 or a whole number; got {gpus!r}", "resources", "gpus"
        )
    return resources


def _refuse_contradictions(source: YamlSource, space: Space) -> None:
    """Refuse sections that contradict each other."""
    sampler = space.sampler.name
    if len(space.objectives) > 1 and space.scheduler.name != NO_SCHEDULER:
        raise source.make_error(
            f"scheduler {space.scheduler.name} with {len(space.objectives)} objectives: a stopped trial cannot be in "
            "a Pareto set; set scheduler: {name: none}",
            *(("scheduler", "name") if "scheduler" in source.content else ("objective",)),
        )
    if sampler == GRID:
        _refuse_infinite_grid(source, space)
    if sampler == GP and space.conditional_axes:
        names = ", ".join(axis.name for axis in space.conditional_axes)
        valid = ", ".join(name for name in SAMPLERS if name != GP)
        message = f"sampler gp cannot model axes that only some configurations have ({names}); choose from: {valid}"
        raise source.make_error(message, "sampler", "name")


def _refuse_infinite_grid(source: YamlSource, space: Space) -> None:
    """Refuse a grid over an infinite space, or of more than MAX_GRID_CONFIGURATIONS configurations."""
    for axis in space.axes:
        if not axis.is_finite:
            message = f"sampler grid needs a finite space: {axis.name} is {axis.description}; set a step, or use choice"
            raise source.make_error(message, "space", axis.name)
    if space.count_configurations(MAX_GRID_CONFIGURATIONS) > MAX_GRID_CONFIGURATIONS:
        valid = ", ".join(name for name in SAMPLERS if name not in (GRID, GP))
        message = (
            f"sampler grid: the space has more than {MAX_GRID_CONFIGURATIONS:,} configurations; choose from: {valid}"
        )
        raise source.make_error(message, "sampler", "name")
