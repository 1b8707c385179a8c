"""Search spaces: what is fixed, what is searched, for which objectives, under which budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna

from ser_platform.errors import UnknownChoice
from ser_platform.models import MODELS
from ser_platform.settings import Settings, resolve
from ser_platform.training.configuration import pinned

JOINER = "+"  # a subset is stored as one categorical value, "log_mel+zcr"


@dataclass(frozen=True)
class Axis:
    """One searched setting: its domain, the domain's arguments, and the parent values under which it exists."""

    name: str
    domain: str
    values: tuple[Any, ...]
    step: float | None
    when: Mapping[str, tuple[Any, ...]]

    def applies(self, params: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
        """Tell whether the axis exists beside the values already drawn."""
        return all(_meets(params.get(parent, base.get(parent)), valid) for parent, valid in self.when.items())

    def draw(self, trial: optuna.Trial) -> Any:
        """Draw a value with Optuna."""
        if self.domain == "fixed":
            return self.values[0]
        if self.domain in ("choice", "subset"):
            value = trial.suggest_categorical(self.name, list(self.values))
            return value.split(JOINER) if self.domain == "subset" else value
        low, high = self.values
        if self.domain == "int":
            return trial.suggest_int(self.name, low, high, step=int(self.step or 1))
        return trial.suggest_float(self.name, low, high, step=self.step, log=self.domain == "loguniform")

    def read(self, stored: Any) -> Any:
        """Return the setting's value from what Optuna stored."""
        return stored.split(JOINER) if self.domain == "subset" else stored


def _meets(value: Any, valid: tuple[Any, ...]) -> bool:
    """Tell whether a parent has a valid value; a parent that is a set must contain one."""
    return not set(value).isdisjoint(valid) if isinstance(value, list | tuple) else value in valid


@dataclass(frozen=True)
class Objective:
    """A figure to make best; `direction` is maximize or minimize."""

    metric: str
    direction: str


@dataclass(frozen=True)
class Constraint:
    """A figure that a configuration must keep within its bounds."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def excess(self, value: float) -> float:
        """Return by how much a value is out of bounds; 0 or less where it is within."""
        over = -float("inf") if self.at_most is None else value - self.at_most
        under = -float("inf") if self.at_least is None else self.at_least - value
        return max(over, under)


@dataclass(frozen=True)
class Budget:
    """When a search ends: after so many trials, minutes, or epochs trained in all; None is without end."""

    trials: int = 32
    minutes: float = 24 * 60
    epochs: int | None = None


@dataclass(frozen=True)
class Confirmation:
    """How many of the best trials are trained again, and with how many new seeds each."""

    trials: int = 4
    seeds: int = 3


@dataclass(frozen=True)
class SamplerPlan:
    """Which sampler proposes configurations, and its seed."""

    name: str = "tpe"
    seed: int = 0


@dataclass(frozen=True)
class SchedulerPlan:
    """Which rule stops trials early: asha, median or none. `brackets` are ASHA's, each of a longer grace."""

    name: str = "asha"
    grace_epochs: int = 3
    reduction_factor: int = 3
    brackets: int = 1


@dataclass(frozen=True)
class Resources:
    """What a trial takes: CPU cores, a share of a GPU (None: the platform chooses), workers of Ray Train (0: none)."""

    cpus: int = 1
    gpus: float | None = None
    workers: int = 0


DEV_UAR = Objective("dev_uar", "maximize")


@dataclass(frozen=True)
class Space:
    """A search space. `points` are configurations to try first; a setting that one leaves out is drawn."""

    name: str
    role: str
    base: Settings
    axes: tuple[Axis, ...]
    points: tuple[Settings, ...] = ()
    objectives: tuple[Objective, ...] = (DEV_UAR,)
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = Budget()
    confirmation: Confirmation = Confirmation()
    sampler: SamplerPlan = SamplerPlan()
    scheduler: SchedulerPlan = SchedulerPlan()
    resources: Resources = Resources()

    def draw(self, trial: optuna.Trial) -> Settings:
        """Draw one configuration's searched settings; parents come before the axes that depend on them."""
        params: Settings = {}
        for axis in self.axes:
            if axis.applies(params, self.base):
                params[axis.name] = axis.draw(trial)
        return params

    def read(self, stored: Mapping[str, Any]) -> Settings:
        """Return the searched settings of a stored trial."""
        params: Settings = {axis.name: axis.read(stored[axis.name]) for axis in self.axes if axis.name in stored}
        for axis in self.axes:
            if axis.domain == "fixed" and axis.applies(params, self.base):
                params[axis.name] = axis.values[0]
        return params

    def fixed(self, setting: str) -> Any:
        """Return the value of a setting in the trials in which no axis gives it."""
        return resolve(self.base)[setting]

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """Return every setting of a configuration, encoders named by the digest of their weights."""
        return pinned(resolve({**self.base, **params}))

    def with_overrides(
        self,
        overrides: Settings,
        trials: int | None = None,
        minutes: float | None = None,
        confirm: tuple[int, int] | None = None,
    ) -> "Space":
        """Return the space with settings fixed by the user (they are searched no more) and another budget."""
        name = overrides.get("model.name")
        if name is not None and name not in MODELS:
            raise UnknownChoice("model.name", name, MODELS)
        chosen = replace(
            self,
            base={**self.base, **overrides},
            axes=tuple(axis for axis in self.axes if axis.name not in overrides),
            budget=replace(
                self.budget,
                trials=self.budget.trials if trials is None else trials,
                minutes=self.budget.minutes if minutes is None else minutes,
            ),
        )
        return chosen if confirm is None else replace(chosen, confirmation=Confirmation(*confirm))
