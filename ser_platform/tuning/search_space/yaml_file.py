"""Reads search-space files and checks them whole; each error names the line and the valid choices."""

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
from ser_platform.tuning.search_space.space_sections import ASHA, ENTRIES, GP, GRID, NO_SCHEDULER, ROLE, SAMPLERS
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
    content = source.content
    role = source.attempt(lambda: source.check_entry(ROLE, content.get("role"), "role", "role"), "")
    base = source.read_values(source.read_settings("base", SETTINGS), "base")
    axes = read_axes(source, base)
    sections = {name: source.read_entries(name) for name in ENTRIES}
    space = Space(
        name=source.path.stem,
        role=role,
        base=base,
        axes=axes,
        points=read_points(source, axes, base),
        objectives=_read_objectives(source),
        constraints=_read_constraints(source),
        budget=Budget(**sections["budget"]),
        confirmation=Confirmation(**sections["confirm"]),
        sampler=SamplerPlan(**sections["sampler"]),
        scheduler=_make_scheduler(source, sections["scheduler"], _find_max_epochs(axes, base)),
        resources=_make_resources(source, sections["resources"]),
    )
    _report_contradictions(source, space)
    source.raise_problems()
    return space


def _find_max_epochs(axes: tuple[Axis, ...], base: Overrides) -> int:
    """Return the most epochs that a trial of the space can be trained."""
    searched = [max(axis.values) for axis in axes if axis.name == "train.epochs"]
    return int(searched[0] if searched else resolve(base).train.epochs)


def _read_metrics(source: YamlSource, section: str) -> dict[int, dict[str, Any]]:
    """Return the valid entries of a section by number; they must differ in their metrics."""
    entries = source.read_listed_entries(section)
    seen: set[str] = set()
    for number, entry in entries.items():
        if entry["metric"] in seen:
            source.report(f"{section} has {entry['metric']} twice", section, str(number))
        seen.add(entry["metric"])
    return entries


def _read_objectives(source: YamlSource) -> tuple[Objective, ...]:
    objectives: list[Objective] = []
    for number, entry in _read_metrics(source, "objective").items():
        metric = entry["metric"]
        valid = TRIAL_METRICS[metric].direction
        if entry.get("direction", valid) != valid:
            message = f"the better {metric}: direction must be {valid}; got {entry['direction']!r}"
            source.report(message, "objective", str(number), "direction")
        objectives.append(Objective(metric, valid))
    return tuple(objectives) or (DEV_UAR,)


def _read_constraints(source: YamlSource) -> tuple[Constraint, ...]:
    entries = _read_metrics(source, "constraints")
    for number, entry in entries.items():
        if len(entry) == 1 or entry.get("at_least", -math.inf) > entry.get("at_most", math.inf):
            example = f"{{metric: {entry['metric']}, at_most: N}}, at_least: N, or both with at_least <= at_most"
            source.report(f"a constraint is {example}; got {entry}", "constraints", str(number))
    return tuple(Constraint(**entry) for entry in entries.values())


def _make_scheduler(source: YamlSource, given: dict[str, Any], max_epochs: int) -> SchedulerPlan:
    """Return the scheduler; its default grace is at most `max_epochs`."""
    plan = SchedulerPlan(**{"grace_epochs": min(SchedulerPlan.grace_epochs, max_epochs)} | given)
    if not source.is_valid("scheduler"):
        return plan
    if plan.name != NO_SCHEDULER and plan.grace_epochs > max_epochs and source.is_valid("base", "space"):
        grace = f"scheduler.grace_epochs {plan.grace_epochs} is above train.epochs {max_epochs}"
        message = f"{grace}: no trial would be stopped; lower it, or set name: none"
        source.report(message, "scheduler", "grace_epochs")
    if "brackets" in given and plan.name != ASHA:
        message = f"scheduler {plan.name} has no brackets; remove scheduler.brackets, or set name: asha"
        source.report(message, "scheduler", "brackets")
    return plan


def _make_resources(source: YamlSource, given: dict[str, Any]) -> Resources:
    resources = Resources(**given)
    gpus = resources.gpus
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        source.report(f"resources.gpus must be at most 1 or a whole number; got {gpus!r}", "resources", "gpus")
    return resources


def _report_contradictions(source: YamlSource, space: Space) -> None:
    """Report valid sections that contradict each other."""
    sampler = space.sampler.name
    if len(space.objectives) > 1 and space.scheduler.name != NO_SCHEDULER and source.is_valid("objective", "scheduler"):
        source.report(
            f"scheduler {space.scheduler.name} with {len(space.objectives)} objectives: a stopped trial cannot be in "
            "a Pareto set; set scheduler: {name: none}",
            *(("scheduler", "name") if "scheduler" in source.content else ("objective",)),
        )
    if not source.is_valid("base", "space", "sampler"):
        return
    if sampler == GRID:
        _report_infinite_grid(source, space)
    if sampler == GP and space.conditional_axes:
        names = ", ".join(axis.name for axis in space.conditional_axes)
        valid = ", ".join(name for name in SAMPLERS if name != GP)
        message = f"sampler gp cannot model axes that only some configurations have ({names}); choose from: {valid}"
        source.report(message, "sampler", "name")


def _report_infinite_grid(source: YamlSource, space: Space) -> None:
    """Report a grid over an infinite space, or of more than MAX_GRID_CONFIGURATIONS configurations."""
    infinite = [axis for axis in space.axes if not axis.is_finite]
    for axis in infinite:
        message = f"sampler grid needs a finite space: {axis.name} is {axis.description}; set a step, or use choice"
        source.report(message, "space", axis.name)
    if not infinite and space.count_configurations(MAX_GRID_CONFIGURATIONS) > MAX_GRID_CONFIGURATIONS:
        valid = ", ".join(name for name in SAMPLERS if name not in (GRID, GP))
        message = (
            f"sampler grid: the space has more than {MAX_GRID_CONFIGURATIONS:,} configurations; choose from: {valid}"
        )
        source.report(message, "sampler", "name")
