"""Search-space files, checked whole before anything starts: a refusal names the line and what is valid."""

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
from ser_platform.tuning.search_space.trial_metrics import TRIAL_METRICS
from ser_platform.tuning.search_space.yaml_axes import read_axes
from ser_platform.tuning.search_space.yaml_points import read_points
from ser_platform.tuning.search_space.yaml_source import YamlSource

ROLES = ("teacher", "student")
TPE, RANDOM, QMC, GP, NSGA2, GRID = "tpe", "random", "qmc", "gp", "nsga2", "grid"
SAMPLERS = (TPE, RANDOM, QMC, GP, NSGA2, GRID)
ASHA, MEDIAN, NO_SCHEDULER = "asha", "median", "none"
SCHEDULERS = (ASHA, MEDIAN, NO_SCHEDULER)
MAX_SEED = 2**31 - 1
MAX_GRID_CONFIGURATIONS = 100_000  # configurations


def find_space_files(folder: Path) -> dict[str, Path]:
    """Return the search-space files of a folder by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(path: Path) -> Space:
    """Read and check a search-space file.

    Raises:
        SpaceError: anything in it cannot be searched; names the line and the valid choices.
    """
    return parse_space(path, read_space_text(path))


def read_space_text(path: Path) -> str:
    """Return the text of a search-space file.

    Raises:
        SpaceError: it cannot be read.
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
    """Check the text of a search-space file; `path` names it.

    Raises:
        SpaceError: anything in it cannot be searched; names the line and the valid choices.
    """
    return _build_space(YamlSource(path, text))


def read_question(path: Path) -> str:
    """Return the question that a search-space file answers: its first line, a comment, without `ser tune NAME:`."""
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip()
    return re.sub(r"^#\s*(ser tune \S+:)?\s*", "", first) if first.startswith("#") else ""


def _build_space(source: YamlSource) -> Space:
    role = source.content.get("role")
    if role not in ROLES:
        raise source.make_error(f"role must be {' or '.join(ROLES)}; got {role!r}", "role")
    given = source.read_section("base", tuple(SETTINGS))
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
        budget=_read_budget(source),
        confirmation=_read_confirmation(source),
        sampler=_read_sampler(source),
        scheduler=_read_scheduler(source, _find_max_epochs(axes, base)),
        resources=_read_resources(source),
    )
    _refuse_contradictions(source, space)
    return space


def _find_max_epochs(axes: tuple[Axis, ...], base: Overrides) -> int:
    """Return the most epochs that a trial of the space can be trained."""
    searched = [max(axis.values) for axis in axes if axis.name == "train.epochs"]
    return int(searched[0] if searched else resolve(base).train.epochs)


def _read_metric(source: YamlSource, entry: dict[str, Any], seen: list[str], *place: str) -> str:
    metric = entry.get("metric")
    if not isinstance(metric, str) or metric not in TRIAL_METRICS:
        raise source.make_error(f"no trial reports {metric!r}; choose from: {', '.join(TRIAL_METRICS)}", *place)
    if metric in seen:
        raise source.make_error(f"{metric} stands twice in {place[0]}", *place)
    return metric


def _read_objectives(source: YamlSource) -> tuple[Objective, ...]:
    objectives: list[Objective] = []
    entries = source.read_entries("objective", ("metric", "direction"), "{metric: dev_uar, direction: maximize}")
    for number, entry in enumerate(entries):
        place = ("objective", str(number))
        metric = _read_metric(source, entry, [objective.metric for objective in objectives], *place)
        valid = TRIAL_METRICS[metric].direction
        if entry.get("direction", valid) != valid:
            raise source.make_error(
                f"the better {metric}: direction must be {valid}; got {entry['direction']!r}", *place, "direction"
            )
        objectives.append(Objective(metric, valid))
    return tuple(objectives) or (DEV_UAR,)


def _read_constraints(source: YamlSource) -> tuple[Constraint, ...]:
    constraints: list[Constraint] = []
    entries = source.read_entries(
        "constraints", ("metric", "at_most", "at_least"), "{metric: parameters, at_most: 250000}"
    )
    for number, entry in enumerate(entries):
        place = ("constraints", str(number))
        metric = _read_metric(source, entry, [constraint.metric for constraint in constraints], *place)
        bounds = {key: entry[key] for key in ("at_most", "at_least") if key in entry}
        for key, bound in bounds.items():
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) < float("inf"):
                raise source.make_error(f"{key} of {metric} must be a number; got {bound!r}", *place, key)
        if not bounds or bounds.get("at_least", -float("inf")) > bounds.get("at_most", float("inf")):
            raise source.make_error(
                f"a constraint is {{metric: {metric}, at_most: N}}, at_least: N, or both with at_least <= at_most; "
                f"got {entry}",
                *place,
            )
        constraints.append(Constraint(metric, **bounds))
    return tuple(constraints)


def _read_budget(source: YamlSource) -> Budget:
    given = source.read_section("budget", ("trials", "minutes", "epochs"))
    return Budget(
        source.read_integer("budget", "trials", Budget.trials, 1),
        source.read_number("budget", "minutes", Budget.minutes, 0.01),
        source.read_integer("budget", "epochs", 1, 1) if "epochs" in given else None,
    )


def _read_confirmation(source: YamlSource) -> Confirmation:
    source.read_section("confirm", ("trials", "seeds"))
    return Confirmation(
        source.read_integer("confirm", "trials", Confirmation.trials, 1),
        source.read_integer("confirm", "seeds", Confirmation.seeds, 1),
    )


def _read_sampler(source: YamlSource) -> SamplerPlan:
    source.read_section("sampler", ("name", "seed"))
    return SamplerPlan(
        source.read_choice("sampler", "name", TPE, SAMPLERS),
        source.read_integer("sampler", "seed", 0, 0, MAX_SEED),
    )


def _read_scheduler(source: YamlSource, max_epochs: int) -> SchedulerPlan:
    """Return the scheduler; without a word of its grace, short trainings have all of theirs."""
    given = source.read_section("scheduler", ("name", "grace_epochs", "reduction_factor", "brackets"))
    name = source.read_choice("scheduler", "name", ASHA, SCHEDULERS)
    grace = source.read_integer("scheduler", "grace_epochs", min(SchedulerPlan.grace_epochs, max_epochs), 1)
    if name != NO_SCHEDULER and grace > max_epochs:
        raise source.make_error(
            f"scheduler.grace_epochs {grace} is above train.epochs {max_epochs}: no trial would be stopped; "
            "lower it, or name: none",
            "scheduler",
            "grace_epochs",
        )
    if "brackets" in given and name != ASHA:
        raise source.make_error(f"scheduler.brackets is of asha; {name} has none", "scheduler", "brackets")
    return SchedulerPlan(
        name,
        grace,
        source.read_integer("scheduler", "reduction_factor", SchedulerPlan.reduction_factor, 2),
        source.read_integer("scheduler", "brackets", 1, 1),
    )


def _read_resources(source: YamlSource) -> Resources:
    given = source.read_section("resources", ("cpus", "gpus", "workers"))
    gpus = source.read_number("resources", "gpus", 0, 0) if "gpus" in given else None
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise source.make_error(f"resources.gpus is a share of one, or whole ones; got {gpus!r}", "resources", "gpus")
    return Resources(
        source.read_integer("resources", "cpus", 1, 1),
        gpus,
        source.read_integer("resources", "workers", 1, 1) if "workers" in given else 0,
    )


def _refuse_contradictions(source: YamlSource, space: Space) -> None:
    """Refuse sections that are fine alone, and cannot be together."""
    sampler, place = space.sampler.name, ("sampler", "name")
    if len(space.objectives) > 1 and space.scheduler.name != NO_SCHEDULER:
        raise source.make_error(
            f"scheduler {space.scheduler.name} with {len(space.objectives)} objectives: a stopped trial has no place "
            "in a Pareto set; take scheduler: {name: none}",
            *(("scheduler", "name") if "scheduler" in source.content else ("objective",)),
        )
    if sampler == GRID:
        _refuse_infinite_grid(source, space)
    if sampler == GP and space.conditional_axes:
        names = ", ".join(axis.name for axis in space.conditional_axes)
        raise source.make_error(
            f"sampler gp cannot model axes that only some configurations have ({names}); choose from: "
            f"{', '.join(name for name in SAMPLERS if name != GP)}",
            *place,
        )


def _refuse_infinite_grid(source: YamlSource, space: Space) -> None:
    """Refuse a grid that has no end, or more points than can be listed."""
    for axis in space.axes:
        if not axis.is_finite:
            raise source.make_error(
                f"sampler grid needs a space that is finite: {axis.name} is {axis.description}; give it a step, or a "
                "choice",
                "space",
                axis.name,
            )
    if space.count_configurations(MAX_GRID_CONFIGURATIONS) > MAX_GRID_CONFIGURATIONS:
        raise source.make_error(
            f"sampler grid: the space has more than {MAX_GRID_CONFIGURATIONS:,} configurations; choose from: "
            f"{', '.join(name for name in SAMPLERS if name not in (GRID, GP))}",
            "sampler",
            "name",
        )
