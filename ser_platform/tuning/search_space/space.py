"""Search spaces: fixed settings, searched axes, objectives, constraints and budget."""

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from ser_platform.settings import SETTINGS, Overrides, Settings, SettingValue, check_overrides, resolve
from ser_platform.training.used_settings import DECIDING_SETTINGS, is_used
from ser_platform.tuning.search_space.registered_names import REGISTRIES

if TYPE_CHECKING:  # a space is read and checked without Optuna, whose import takes longer
    import optuna
    from optuna.distributions import BaseDistribution

StoredValue: TypeAlias = bool | int | float | str
StoredParams: TypeAlias = dict[str, StoredValue]  # the searched settings of a trial, as Optuna stores them

STEP_TOLERANCE = 1e-8  # of a step, as in Optuna's FloatDistribution
SUBSET_SEPARATOR = "+"  # a subset is stored as one categorical value, "log_mel+zcr"


@dataclass(frozen=True)
class Axis:
    """One searched setting.

    Attributes:
        name: of the setting.
        domain: a key of DOMAINS.
        values: the listed values, or the low and the high end.
        step: distance between neighbouring values; None where the domain has none.
        when: valid values of each parent setting; other configurations do not have the axis. Nor do those whose model
            does not use the setting.
    """

    name: str
    domain: str
    values: tuple[Any, ...]
    step: float | None
    when: Mapping[str, tuple[Any, ...]]

    def is_active(self, params: Overrides, base: Overrides) -> bool:
        """Return whether a configuration with these params and fixed settings has the axis and uses its setting."""
        return self.meets_conditions(params, base) and is_used(self.name, {**base, **params})

    def meets_conditions(self, params: Overrides, base: Overrides) -> bool:
        """Return whether every parent has one of the values in `when`."""
        return all(is_met(params.get(parent, base.get(parent)), valid) for parent, valid in self.when.items())

    @property
    def is_listed(self) -> bool:
        """Whether the values are listed, and not the ends of a range."""
        return self.domain in ("choice", "subset", "fixed")

    @property
    def _is_whole(self) -> bool:
        """Whether a range contains whole numbers only."""
        return isinstance(self.values[0], int)

    @cached_property
    def distribution(self) -> "BaseDistribution":
        """The domain in Optuna; for a fixed axis, which Optuna does not receive, a choice of one value."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.is_listed:
            return CategoricalDistribution(list(self.values))
        low, high = self.values
        log = self.domain == "loguniform"
        if self._is_whole:
            return IntDistribution(low, high, log=log, step=int(self.step or 1))
        return FloatDistribution(low, high, log=log, step=self.step)

    @property
    def stored_values(self) -> Iterator[Any]:
        """Every value of a finite domain as Optuna stores it, in ascending order; there can be billions."""
        if self.is_listed:
            yield from self.values
            return
        step = self.step or 1
        count = round((self.values[1] - self.values[0]) / step) + 1
        # As decimals: the third step of 0.1 is 0.3, not 0.30000000000000004.
        low, width = Decimal(str(self.values[0])), Decimal(str(step))
        yield from (self._to_number(low + width * place) for place in range(count))

    @property
    def is_finite(self) -> bool:
        """Whether every value can be listed; loguniform counts as infinite, even over whole numbers."""
        return self.is_listed or self.domain == "int" or self.step is not None

    def draw(self, trial: "optuna.Trial") -> SettingValue:
        """Draw a value with Optuna."""
        if self.domain == "fixed":
            fixed: SettingValue = self.values[0]
            return fixed
        if self.is_listed:
            return self.decode(trial.suggest_categorical(self.name, list(self.values)))
        (low, high), log = self.values, self.domain == "loguniform"
        if self._is_whole:
            return trial.suggest_int(self.name, low, high, step=int(self.step or 1), log=log)
        return trial.suggest_float(self.name, low, high, step=self.step, log=log)

    def decode(self, stored: Any) -> SettingValue:
        """Return the setting's value from what Optuna stored."""
        return tuple(stored.split(SUBSET_SEPARATOR)) if self.domain == "subset" else stored

    def encode(self, value: Any) -> Any:
        """Return what Optuna stores for a value of the setting.

        Raises:
            ValueError: the value is outside the domain; names the domain.
        """
        if self.domain == "subset":
            names = {str(member) for member in value} if isinstance(value, list | tuple) else {str(value)}
            found = [members for members in self.values if set(members.split(SUBSET_SEPARATOR)) == names]
        elif self.is_listed:
            alone = tuple(value) if isinstance(value, list) else value
            if isinstance(alone, tuple) and len(alone) == 1:
                (alone,) = alone
            found = [one for one in self.values if one == alone and isinstance(one, bool) == isinstance(alone, bool)]
        else:
            found = [self._to_number(value)] if self._contains(value) else []
        if not found:
            raise ValueError(f"{self.name} {value!r} is outside {self.description}")
        return found[0]

    def _to_number(self, value: Any) -> int | float:
        """Return a number in the domain's type."""
        return int(value) if self._is_whole else float(value)

    def _contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return False
        low, high = self.values
        steps = 0.0 if self.step is None else (value - low) / self.step
        is_on_step = self._to_number(value) == value and abs(steps - round(steps)) < STEP_TOLERANCE
        return bool(low <= value <= high and is_on_step)

    @property
    def description(self) -> str:
        """The domain in words."""
        if self.domain == "subset":
            sets = [members.split(SUBSET_SEPARATOR) for members in self.values]
            names = dict.fromkeys(name for members in sets for name in members)
            return f"subset [{', '.join(names)}] of at least {min(map(len, sets))}"
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.domain} [{', '.join(map(str, self.values))}]{step}"


def is_met(value: SettingValue | None, valid: tuple[Any, ...]) -> bool:
    """Return whether a parent has a valid value; a parent that is a set must contain one."""
    return not set(value).isdisjoint(valid) if isinstance(value, tuple) else value in valid


@dataclass(frozen=True)
class Objective:
    """A metric to optimise; `direction` is maximize or minimize."""

    metric: str
    direction: str


@dataclass(frozen=True)
class Constraint:
    """Bounds of a metric; None is no bound."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def compute_excess(self, value: float) -> float:
        """Return by how much a value is out of bounds; 0 or less where it is within them."""
        over = -float("inf") if self.at_most is None else value - self.at_most
        under = -float("inf") if self.at_least is None else self.at_least - value
        return max(over, under)


@dataclass(frozen=True)
class Budget:
    """When a search ends: after this many trials, minutes, or epochs over all trials; None is no limit."""

    trials: int = 32
    minutes: float = 24 * 60
    epochs: int | None = None


@dataclass(frozen=True)
class Confirmation:
    """How many of the best trials are trained again, each with how many new seeds."""

    trials: int = 4
    seeds: int = 3


@dataclass(frozen=True)
class SamplerPlan:
    """The sampler that proposes configurations, and its seed."""

    name: str = "tpe"
    seed: int = 0


@dataclass(frozen=True)
class SchedulerPlan:
    """The rule that stops trials early: asha, median or none. Each of the brackets of asha has a longer grace."""

    name: str = "asha"
    grace_epochs: int = 3
    reduction_factor: int = 3
    brackets: int = 1


@dataclass(frozen=True)
class Resources:
    """CPU cores, GPUs (None: the platform chooses) and workers of Ray Train (0: none) of a trial."""

    cpus: int = 1
    gpus: float | None = None
    workers: int = 0


DEV_UAR = Objective("dev_uar", "maximize")


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        base: the fixed settings.
        axes: the searched settings, parents before the axes that depend on them.
        points: configurations to try first; a searched setting that a point leaves out is drawn.
    """

    name: str
    role: str
    base: Overrides
    axes: tuple[Axis, ...]
    points: tuple[Overrides, ...] = ()
    objectives: tuple[Objective, ...] = (DEV_UAR,)
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = Budget()
    confirmation: Confirmation = Confirmation()
    sampler: SamplerPlan = SamplerPlan()
    scheduler: SchedulerPlan = SchedulerPlan()
    resources: Resources = Resources()

    def draw(self, trial: "optuna.Trial") -> dict[str, SettingValue]:
        """Draw the searched settings of one configuration with Optuna."""
        params: dict[str, SettingValue] = {}
        for axis in self.axes:
            if axis.is_active(params, self.base):
                params[axis.name] = axis.draw(trial)
        return params

    def decode(self, stored: Mapping[str, StoredValue]) -> dict[str, SettingValue]:
        """Return the searched settings of a stored trial."""
        params: dict[str, SettingValue] = {
            axis.name: axis.decode(stored[axis.name]) for axis in self.axes if axis.name in stored
        }
        for axis in self.axes:
            if axis.domain == "fixed" and axis.is_active(params, self.base):
                params[axis.name] = axis.values[0]
        return params

    @cached_property
    def fixed_settings(self) -> Settings:
        """Every setting of a trial that has none of the axes."""
        return resolve(self.base)

    def resolve_settings(self, params: Overrides) -> Settings:
        """Return every setting of a configuration; encoders are named by the digest of their weights."""
        from ser_platform.training.configuration import pin_settings

        return pin_settings(resolve({**self.base, **params}))

    def encode(self, settings: Mapping[str, object], *, partial: bool = False) -> StoredParams:
        """Return the configuration with these settings as Optuna stores it.

        Args:
            settings: by name; those that are not searched are ignored.
            partial: leave out axes that `settings` does not contain, to be drawn.

        Raises:
            ValueError: a setting is outside the domain of its axis.
            KeyError: a setting is missing and `partial` is false.
        """
        params: dict[str, SettingValue] = {}
        stored: StoredParams = {}
        for axis in self.axes:
            # With `partial`, the settings that decide whether an axis is used may still be drawn.
            has_axis = axis.meets_conditions if partial else axis.is_active
            if not has_axis(params, self.base) or (partial and axis.name not in settings):
                continue
            value = axis.encode(settings[axis.name])
            params[axis.name] = axis.decode(value)
            if axis.domain != "fixed":
                stored[axis.name] = value
        return stored

    def iterate_configurations(self) -> Iterator[StoredParams]:
        """Yield every configuration of a finite space, as Optuna stores it."""
        return self._iterate_from(0, {}, {})

    def _iterate_from(self, place: int, params: Overrides, stored: StoredParams) -> Iterator[StoredParams]:
        if place == len(self.axes):
            yield stored
            return
        axis = self.axes[place]
        if not axis.is_active(params, self.base):
            yield from self._iterate_from(place + 1, params, stored)
            return
        for value in axis.stored_values:
            known = stored if axis.domain == "fixed" else {**stored, axis.name: value}
            yield from self._iterate_from(place + 1, {**params, axis.name: axis.decode(value)}, known)

    def count_configurations(self, limit: int) -> int:
        """Return how many configurations a finite space has, or `limit` + 1 where there are more than `limit`."""
        return sum(1 for _ in itertools.islice(self.iterate_configurations(), limit + 1))

    @property
    def conditional_axes(self) -> tuple[Axis, ...]:
        """The axes that only some configurations have."""
        searched = {axis.name for axis in self.axes if axis.domain != "fixed"}
        names: set[str] = set()
        for axis in self.axes:  # parents first
            if not axis.when.keys().isdisjoint(searched | names) or self._is_used_in_some(axis):
                names.add(axis.name)
        return tuple(axis for axis in self.axes if axis.name in names)

    def _is_used_in_some(self, axis: Axis) -> bool:
        """Return whether a value of one other axis decides whether the setting has an effect."""
        deciding = (other for other in self.axes if other.name in DECIDING_SETTINGS and other.name != axis.name)
        return any(
            len({is_used(axis.name, {**self.base, other.name: other.decode(value)}) for value in other.values}) > 1
            for other in deciding
        )

    def without_teacher(self) -> "Space":
        """Return the same search space for students that are trained on labels alone."""
        names = {axis.name for axis in self.axes} | self.base.keys()
        defaults = {name: SETTINGS[name].default for name in names if name.startswith("distill.")}
        space = self.with_overrides(defaults | {"distill.alpha": 0.0})
        return replace(space, name=f"{self.name}_control")

    def with_overrides(
        self,
        overrides: Overrides,
        trials: int | None = None,
        minutes: float | None = None,
        confirm: tuple[int, int] | None = None,
    ) -> "Space":
        """Return the space with other fixed settings, which are no longer searched, another budget and confirmation.

        Args:
            confirm: number of trials and of seeds of the confirmation.

        Raises:
            UserError: a setting is unknown or its value invalid.
        """
        fixed = check_overrides(overrides, REGISTRIES)
        chosen = replace(
            self,
            base={**self.base, **fixed},
            axes=tuple(axis for axis in self.axes if axis.name not in fixed),
            points=tuple({name: value for name, value in point.items() if name not in fixed} for point in self.points),
            budget=replace(
                self.budget,
                trials=self.budget.trials if trials is None else trials,
                minutes=self.budget.minutes if minutes is None else minutes,
            ),
        )
        return chosen if confirm is None else replace(chosen, confirmation=Confirmation(*confirm))
