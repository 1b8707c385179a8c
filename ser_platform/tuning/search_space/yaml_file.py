"""Search-space files, checked whole before anything starts: a refusal names the line and what is valid."""

import re
from pathlib import Path
from typing import Any

from ser_platform.errors import SpaceError
from ser_platform.settings import SETTINGS, Settings
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
from ser_platform.tuning.search_space.trial_metrics import MEASURES
from ser_platform.tuning.search_space.yaml_axes import read_axes
from ser_platform.tuning.search_space.yaml_points import read_points
from ser_platform.tuning.search_space.yaml_source import Source

ROLES = ("teacher", "student")
TPE, RANDOM, QMC, GP, NSGA2, GRID = "tpe", "random", "qmc", "gp", "nsga2", "grid"
SAMPLERS = (TPE, RANDOM, QMC, GP, NSGA2, GRID)
ASHA, MEDIAN, NONE = "asha", "median", "none"
SCHEDULERS = (ASHA, MEDIAN, NONE)
LARGEST_SEED = 2**31 - 1
LARGEST_GRID = 100_000  # configurations


def space_files(folder: Path) -> dict[str, Path]:
    """Return the search-space files of a folder by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(path: Path) -> Space:
    """Read and check a search-space file.

    Raises:
        SpaceError: anything in it cannot be searched; names the line and the valid choices.
    """
    return parse_space(path, read_text(path))


def read_text(path: Path) -> str:
    """Return the text of a search-space file.

    Raises:
        SpaceError: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise SpaceError(f"{path}: not a file")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpaceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path}: not UTF-8 text") from error


def parse_space(path: Path, text: str) -> Space:
    """Check the text of a search-space file; `path` names it.

    Raises:
        SpaceError: anything in it cannot be searched; names the line and the valid choices.
    """
    return _space(Source(path, text))


def question_of(path: Path) -> str:
    """Return the question that a search-space file answers: its first line, a comment, without `ser tune NAME:`."""
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip()
    return re.sub(r"^#\s*(ser tune \S+:)?\s*", "", first) if first.startswith("#") else ""


def _space(source: Source) -> Space:
    role = source.content.get("role")
    if role not in ROLES:
        raise source.refuse(f"role must be {' or '.join(ROLES)}; got {role!r}", "role")
    given = source.section("base", tuple(SETTINGS))
    base = {name: source.check_setting(name, value, "base", name) for name, value in given.items()}
    axes = read_axes(source, base)
    space = Space(
        name=source.path.stem,
        role=role,
        base=base,
        axes=axes,
        points=read_points(source, axes, base),
        objectives=_objectives(source),
        constraints=_constraints(source),
        budget=_budget(source),
        confirmation=_confirmation(source),
        sampler=_sampler(source),
        scheduler=_scheduler(source, _longest(axes, base)),
        resources=_resources(source),
    )
    _refuse_contradictions(source, space)
    return space


def _longest(axes: tuple[Axis, ...], base: Settings) -> int:
    """Return the most epochs that a trial of the space can be trained."""
    searched = [max(axis.values) for axis in axes if axis.name == "train.epochs"]
    return int(searched[0] if searched else base.get("train.epochs", SETTINGS["train.epochs"].default))


def _metric(source: Source, entry: dict[str, Any], seen: list[str], *place: str) -> str:
    metric = entry.get("metric")
    if not isinstance(metric, str) or metric not in MEASURES:
        raise source.refuse(f"no trial reports {metric!r}; choose from: {', '.join(MEASURES)}", *place)
    if metric in seen:
        raise source.refuse(f"{metric} stands twice in {place[0]}", *place)
    return metric


def _objectives(source: Source) -> tuple[Objective, ...]:
    objectives: list[Objective] = []
    entries = source.entries("objective", ("metric", "direction"), "{metric: dev_uar, direction: maximize}")
    for number, entry in enumerate(entries):
        place = ("objective", str(number))
        metric = _metric(source, entry, [objective.metric for objective in objectives], *place)
        valid = MEASURES[metric].direction
        if entry.get("direction", valid) != valid:
            raise source.refuse(
                f"the better {metric}: direction must be {valid}; got {entry['direction']!r}", *place, "direction"
            )
        objectives.append(Objective(metric, valid))
    return tuple(objectives) or (DEV_UAR,)


def _constraints(source: Source) -> tuple[Constraint, ...]:
    constraints: list[Constraint] = []
    entries = source.entries("constraints", ("metric", "at_most", "at_least"), "{metric: parameters, at_most: 250000}")
    for number, entry in enumerate(entries):
        place = ("constraints", str(number))
        metric = _metric(source, entry, [constraint.metric for constraint in constraints], *place)
        bounds = {key: entry[key] for key in ("at_most", "at_least") if key in entry}
        for key, bound in bounds.items():
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) < float("inf"):
                raise source.refuse(f"{key} of {metric} must be a number; got {bound!r}", *place, key)
        if not bounds or bounds.get("at_least", -float("inf")) > bounds.get("at_most", float("inf")):
            raise source.refuse(
                f"a constraint is {{metric: {metric}, at_most: N}}, at_least: N, or both with at_least <= at_most; "
                f"got {entry}",
                *place,
            )
        constraints.append(Constraint(metric, **bounds))
    return tuple(constraints)


def _budget(source: Source) -> Budget:
    given = source.section("budget", ("trials", "minutes", "epochs"))
    return Budget(
        source.whole("budget", "trials", Budget.trials, 1),
        source.number("budget", "minutes", Budget.minutes, 0.01),
        source.whole("budget", "epochs", 1, 1) if "epochs" in given else None,
    )


def _confirmation(source: Source) -> Confirmation:
    source.section("confirm", ("trials", "seeds"))
    return Confirmation(
        source.whole("confirm", "trials", Confirmation.trials, 1),
        source.whole("confirm", "seeds", Confirmation.seeds, 1),
    )


def _sampler(source: Source) -> SamplerPlan:
    source.section("sampler", ("name", "seed"))
    return SamplerPlan(
        source.choice("sampler", "name", TPE, SAMPLERS),
        source.whole("sampler", "seed", 0, 0, LARGEST_SEED),
    )


def _scheduler(source: Source, longest: int) -> SchedulerPlan:
    """Return the scheduler; without a word of its grace, short trainings have all of theirs."""
    given = source.section("scheduler", ("name", "grace_epochs", "reduction_factor", "brackets"))
    name = source.choice("scheduler", "name", ASHA, SCHEDULERS)
    grace = source.whole("scheduler", "grace_epochs", min(SchedulerPlan.grace_epochs, longest), 1)
    if name != NONE and grace > longest:
        raise source.refuse(
            f"scheduler.grace_epochs {grace} is above train.epochs {longest}: no trial would be stopped; "
            "lower it, or name: none",
            "scheduler",
            "grace_epochs",
        )
    if "brackets" in given and name != ASHA:
        raise source.refuse(f"scheduler.brackets is of asha; {name} has none", "scheduler", "brackets")
    return SchedulerPlan(
        name,
        grace,
        source.whole("scheduler", "reduction_factor", SchedulerPlan.reduction_factor, 2),
        source.whole("scheduler", "brackets", 1, 1),
    )


def _resources(source: Source) -> Resources:
    given = source.section("resources", ("cpus", "gpus", "workers"))
    gpus = source.number("resources", "gpus", 0, 0) if "gpus" in given else None
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise source.refuse(f"resources.gpus is a share of one, or whole ones; got {gpus!r}", "resources", "gpus")
    return Resources(
        source.whole("resources", "cpus", 1, 1),
        gpus,
        source.whole("resources", "workers", 1, 1) if "workers" in given else 0,
    )


def _refuse_contradictions(source: Source, space: Space) -> None:
    """Refuse sections that are fine alone, and cannot be together."""
    sampler, place = space.sampler.name, ("sampler", "name")
    if len(space.objectives) > 1 and space.scheduler.name != NONE:
        raise source.refuse(
            f"scheduler {space.scheduler.name} with {len(space.objectives)} objectives: a stopped trial has no place "
            "in a Pareto set; take scheduler: {name: none}",
            *(("scheduler", "name") if "scheduler" in source.content else ("objective",)),
        )
    if sampler == GRID:
        _refuse_endless(source, space)
    if sampler == GP and space.conditional:
        names = ", ".join(axis.name for axis in space.conditional)
        raise source.refuse(
            f"sampler gp cannot model axes that only some configurations have ({names}); choose from: "
            f"{', '.join(name for name in SAMPLERS if name != GP)}",
            *place,
        )


def _refuse_endless(source: Source, space: Space) -> None:
    """Refuse a grid that has no end, or more points than can be listed."""
    for axis in space.axes:
        if not axis.is_finite:
            raise source.refuse(
                f"sampler grid needs a space that is finite: {axis.name} is {axis.told}; give it a step, or a choice",
                "space",
                axis.name,
            )
    if space.size(LARGEST_GRID) > LARGEST_GRID:
        raise source.refuse(
            f"sampler grid: the space has more than {LARGEST_GRID:,} configurations; choose from: "
            f"{', '.join(name for name in SAMPLERS if name not in (GRID, GP))}",
            "sampler",
            "name",
        )
