"""Search-space files, checked whole before anything starts: a refusal names the line and what is valid."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ser_platform.errors import SpaceError, UserError
from ser_platform.models import MODELS
from ser_platform.settings import OF_A_STUDY, SETTINGS, Settings
from ser_platform.tuning.space import (
    JOINER,
    Axis,
    Budget,
    Confirmation,
    Constraint,
    Resources,
    SamplerPlan,
    SchedulerPlan,
    Space,
)

ROLES = ("teacher", "student")
DOMAINS = ("choice", "subset", "uniform", "loguniform", "int", "fixed")
SECTIONS = (
    "role",
    "base",
    "space",
    "objective",
    "constraints",
    "budget",
    "confirm",
    "sampler",
    "scheduler",
    "resources",
)
OBJECTIVES = ("dev_uar",)
CONSTRAINTS = ("parameters",)


def space_files(folder: Path) -> dict[str, Path]:
    """Return the search-space files of a folder by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(path: Path) -> Space:
    """Read and check a search-space file.

    Raises:
        SpaceError: anything in it cannot be searched; names the line and the valid choices.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return _Reader(path, text).space()
    except OSError as error:
        raise SpaceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path}: not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise SpaceError(f"{path}: not YAML: {str(error).replace(chr(10), ' ')}") from error


class _Reader:
    """Checks one file, and knows the line of everything in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        self.content = yaml.safe_load(text)
        if not isinstance(self.content, dict):
            raise SpaceError(f"{path}: a search space is a mapping with {', '.join(SECTIONS)}")
        self._note_lines(node, ())

    def _note_lines(self, node: yaml.Node | None, place: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if (*place, str(key.value)) in self.lines:
                    line = key.start_mark.line + 1
                    raise SpaceError(f"{self.path}:{line}: {key.value!r} stands twice; the first is on another line")
                self.lines[(*place, str(key.value))] = key.start_mark.line + 1
                self._note_lines(value, (*place, str(key.value)))

    def refuse(self, message: str, *place: str) -> SpaceError:
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), None)
        return SpaceError(f"{self.path}{'' if line is None else f':{line}'}: {message}")

    def section(self, name: str, valid: tuple[str, ...]) -> dict[str, Any]:
        section = self.content.get(name) or {}
        if not isinstance(section, dict):
            raise self.refuse(f"{name} must be a mapping with {', '.join(valid)}", name)
        for key in section:
            if key not in valid:
                raise self.refuse(f"unknown key {key!r} in {name}; choose from: {', '.join(valid)}", name, str(key))
        return section

    def entries(self, name: str) -> list[dict[str, Any]]:
        entries = self.content.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self.refuse(f"{name} must be a list of mappings like - {{metric: ...}}; got {entries!r}", name)
        return entries

    def number(self, section: Mapping[str, Any], name: str, key: str, default: float, low: float) -> float:
        value = section.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
            raise self.refuse(f"{name}.{key} must be a number of at least {low:g}; got {value!r}", name, key)
        return value

    def space(self) -> Space:
        for key in self.content:
            if key not in SECTIONS:
                raise self.refuse(f"unknown key {key!r}; choose from: {', '.join(SECTIONS)}", str(key))
        role = self.content.get("role")
        if role not in ROLES:
            raise self.refuse(f"role must be {' or '.join(ROLES)}; got {role!r}", "role")
        self._check_objective()
        base = self._base()
        budget = self.section("budget", ("trials", "minutes"))
        confirm = self.section("confirm", ("trials", "seeds"))
        sampler = self.section("sampler", ("name", "seed"))
        scheduler = self.section("scheduler", ("name", "grace_epochs", "reduction_factor"))
        resources = self.section("resources", ("workers",))
        if sampler.get("name", "tpe") not in ("tpe", "random"):
            raise self.refuse(f"unknown sampler {sampler['name']!r}; choose from: tpe, random", "sampler", "name")
        if scheduler.get("name", "asha") not in ("asha", "none"):
            raise self.refuse(f"unknown scheduler {scheduler['name']!r}; choose from: asha, none", "scheduler", "name")
        return Space(
            name=self.path.stem,
            role=role,
            base=base,
            axes=self._axes(base),
            constraints=self._constraints(),
            budget=Budget(
                int(self.number(budget, "budget", "trials", 32, 1)),
                self.number(budget, "budget", "minutes", 24 * 60, 0.01),
            ),
            confirmation=Confirmation(
                int(self.number(confirm, "confirm", "trials", 4, 1)),
                int(self.number(confirm, "confirm", "seeds", 3, 1)),
            ),
            sampler=SamplerPlan(sampler.get("name", "tpe"), int(self.number(sampler, "sampler", "seed", 0, 0))),
            scheduler=SchedulerPlan(
                scheduler.get("name", "asha"),
                int(self.number(scheduler, "scheduler", "grace_epochs", 3, 1)),
                int(self.number(scheduler, "scheduler", "reduction_factor", 3, 2)),
            ),
            resources=Resources(workers=self._workers(resources)),
        )

    def _workers(self, resources: Mapping[str, Any]) -> int:
        workers = resources.get("workers", 0)
        if "workers" in resources and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise self.refuse(
                f"resources.workers must be a whole number of at least 1; got {workers!r}", "resources", "workers"
            )
        return int(workers)

    def _check_objective(self) -> None:
        for objective in self.entries("objective") or [{"metric": "dev_uar"}]:
            if objective.get("metric") not in OBJECTIVES:
                raise self.refuse(
                    f"no trial reports {objective.get('metric')!r}; choose from: {', '.join(OBJECTIVES)}", "objective"
                )
            if objective.get("direction", "maximize") != "maximize":
                raise self.refuse("dev_uar is maximized; direction must be maximize", "objective")

    def _base(self) -> Settings:
        base = self.section("base", tuple(SETTINGS))
        for name, value in base.items():
            self._check_value("base", name, value, name)
        return dict(base)

    def _check_value(self, section: str, name: str, value: Any, *place: str) -> None:
        try:
            SETTINGS[name].checked(name, value)
        except UserError as error:
            raise self.refuse(str(error), section, *place) from error
        if name == "model.name" and value not in MODELS:
            raise self.refuse(f"unknown model.name {value!r}; choose from: {', '.join(MODELS)}", section, *place)

    def _constraints(self) -> tuple[Constraint, ...]:
        constraints = []
        for constraint in self.entries("constraints"):
            if constraint.get("metric") not in CONSTRAINTS or not isinstance(constraint.get("at_most"), int):
                raise self.refuse(
                    f"a constraint is {{metric: parameters, at_most: N}}; got {constraint}", "constraints"
                )
            constraints.append(Constraint(constraint["metric"], constraint["at_most"]))
        return tuple(constraints)

    def _axes(self, base: Settings) -> tuple[Axis, ...]:
        section = self.section("space", tuple(name for name in SETTINGS if name not in OF_A_STUDY))
        axes = {name: self._axis(name, entry) for name, entry in section.items()}
        ordered: list[Axis] = []
        for name in axes:
            self._place(name, axes, base, ordered, ())
        return tuple(ordered)

    def _place(
        self, name: str, axes: dict[str, Axis], base: Settings, ordered: list[Axis], below: tuple[str, ...]
    ) -> None:
        """Append an axis behind its parents."""
        if axes[name] in ordered:
            return
        if name in below:
            raise self.refuse(f"{name} depends on itself", "space", name, "when")
        for parent in axes[name].when:
            if parent in axes:
                self._place(parent, axes, base, ordered, (*below, name))
            elif parent not in base:
                valid = ", ".join([*axes, *base])
                raise self.refuse(
                    f"when: {parent!r} is neither searched nor fixed; choose from: {valid}", "space", name
                )
        ordered.append(axes[name])

    def _axis(self, name: str, entry: Any) -> Axis:
        found = [key for key in DOMAINS if isinstance(entry, dict) and key in entry]
        if len(found) != 1:
            raise self.refuse(f"{name} needs one domain of: {', '.join(DOMAINS)}; got {entry!r}", "space", name)
        domain = found[0]
        for key in entry:
            if key not in (domain, "step", "min", "when"):
                raise self.refuse(
                    f"unknown key {key!r} in {name}; choose from: {domain}, step, min, when", "space", name
                )
        when = entry.get("when") or {}
        if not isinstance(when, dict):
            raise self.refuse(f"when of {name} must be a mapping from settings to values", "space", name)
        conditions = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in when.items()}
        values = self._values(name, domain, entry)
        return Axis(name, domain, values, self._step(name, domain, values, entry.get("step")), conditions)

    def _step(self, name: str, domain: str, values: tuple[Any, ...], step: Any) -> float | None:
        if step is None:
            return None
        if domain not in ("uniform", "int") or isinstance(step, bool) or not isinstance(step, int | float) or step <= 0:
            raise self.refuse(
                f"step of {name} must be a number above 0 under uniform or int; got {step!r}", "space", name
            )
        if step > values[1] - values[0]:
            raise self.refuse(f"step of {name} is wider than its range {list(values)}", "space", name)
        return float(step)

    def _values(self, name: str, domain: str, entry: dict[str, Any]) -> tuple[Any, ...]:
        given = entry[domain]
        if domain == "fixed":
            self._check_value("space", name, given, name)
            return (given,)
        if not isinstance(given, list) or not given:
            raise self.refuse(f"{domain} of {name} must be a list that is not empty; got {given!r}", "space", name)
        for value in given:
            self._check_value("space", name, value, name)
        if domain == "choice":
            if any(isinstance(value, list) for value in given):
                raise self.refuse(f"choice of {name} takes single values; use subset for sets", "space", name)
            return tuple(given)
        if domain == "subset" and "waveform" in given and len(given) > 1:
            raise self.refuse(f"subset of {name}: waveform has another frame rate and stands alone", "space", name)
        if domain == "subset":
            smallest = entry.get("min", 1)
            sizes = range(smallest, len(given) + 1) if isinstance(smallest, int) else ()
            if not isinstance(SETTINGS[name].default, tuple) or not sizes or sizes[0] < 1:
                raise self.refuse(f"subset of {name} with min {smallest!r} draws nothing valid", "space", name)
            return tuple(JOINER.join(part) for size in sizes for part in itertools.combinations(given, size))
        numbers = [SETTINGS[name].checked(name, value) for value in given]
        if len(numbers) != 2 or any(isinstance(n, str | bool | tuple) for n in numbers) or not numbers[0] < numbers[1]:
            raise self.refuse(f"{domain} of {name} must be [low, high] with low < high; got {given}", "space", name)
        if isinstance(SETTINGS[name].default, int) and domain != "int":
            raise self.refuse(f"{name} is a whole number; search it with int or choice, not {domain}", "space", name)
        if domain == "int" and any(number != int(number) for number in numbers):
            raise self.refuse(f"int of {name} must be [low, high] in whole numbers; got {given}", "space", name)
        if domain == "loguniform" and numbers[0] <= 0:
            raise self.refuse(f"loguniform of {name} must start above 0; got {given}", "space", name)
        return (int(numbers[0]), int(numbers[1])) if domain == "int" else (float(numbers[0]), float(numbers[1]))
