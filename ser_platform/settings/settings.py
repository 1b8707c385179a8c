"""All settings of a training configuration: typed attributes for code, dotted names for users."""

from collections.abc import Mapping

from pydantic import Field, ValidationError

from ser_platform.errors import UnknownSetting
from ser_platform.settings.augment import AugmentSettings
from ser_platform.settings.data import DataSettings
from ser_platform.settings.distill import DistillSettings
from ser_platform.settings.features import FeatureSettings
from ser_platform.settings.model import ModelSettings
from ser_platform.settings.optimizer import OptimizerSettings
from ser_platform.settings.suggestions import describe_unknown_setting
from ser_platform.settings.table import Setting, make_table
from ser_platform.settings.train import TrainSettings
from ser_platform.settings.values import Group, JsonValue, Registries, SettingValue, Whole, as_json

# Equal in all trials of a study.
OF_A_STUDY = ("data.labels", "data.folds", "features.dtype")
NO_REGISTRIES: Registries = {}


class Settings(Group, frozen=True):
    """Every setting of one configuration: `settings.train.epochs` has the dotted name `train.epochs`."""

    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    distill: DistillSettings = DistillSettings()
    seed: Whole = Field(default=0, ge=0, le=2**31 - 1)
    """seeds weights, batches, dropout and masks"""

    def value(self, name: str) -> SettingValue:
        """Return the setting with a dotted name.

        Raises:
            UnknownSetting: there is none.
        """
        setting = find_setting(name)
        value: SettingValue = getattr(getattr(self, setting.group) if setting.group else self, setting.field)
        return value

    def dotted(self) -> dict[str, JsonValue]:
        """Return every setting by its dotted name, with tuples as lists, as bundles, studies and MLflow store them."""
        groups = vars(self) | {"": self}
        return as_json({name: getattr(groups[setting.group], setting.field) for name, setting in SETTINGS.items()})

    def with_overrides(self, overrides: Mapping[str, object]) -> "Settings":
        """Return these settings with other values for some, given by dotted name.

        Raises:
            UserError: a name is unknown or a value invalid.
        """
        changes = _nest(overrides)
        groups = {name: vars(part) | changes[name] if name in changes else part for name, part in self}
        return _validate(groups | changes.get("", {}), overrides, NO_REGISTRIES)


SETTINGS: dict[str, Setting] = make_table(Settings)


def find_setting(name: str) -> Setting:
    """Return the setting with a dotted name.

    Raises:
        UnknownSetting: there is none.
    """
    if name not in SETTINGS:
        raise UnknownSetting(name, describe_unknown_setting(name, SETTINGS))
    return SETTINGS[name]


def resolve(overrides: Mapping[str, object], registries: Registries = NO_REGISTRIES) -> Settings:
    """Return all settings: `overrides`, and the defaults of the others.

    Args:
        overrides: by dotted name; the result of `Settings.dotted` of an older version is valid too.
        registries: the valid names of settings that choose from a registry; without them any name is valid.

    Raises:
        UserError: a name is unknown or a value invalid.
    """
    changes = _nest(overrides)
    return _validate(changes.pop("", {}) | changes, overrides, registries)


def check(name: str, value: object, registries: Registries = NO_REGISTRIES) -> SettingValue:
    """Return a value of the setting `name`, converted to its type; `registries` as for `resolve`.

    Raises:
        UserError: there is no such setting, or the value is invalid.
    """
    return resolve({name: value}, registries).value(name)


def check_overrides(overrides: Mapping[str, object], registries: Registries = NO_REGISTRIES) -> dict[str, SettingValue]:
    """Return `overrides` with each value converted to the type of its setting; `registries` as for `resolve`.

    Raises:
        UserError: a name is unknown or a value invalid.
    """
    settings = resolve(overrides, registries)
    return {name: settings.value(name) for name in overrides}


def _nest(overrides: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return values by group and field; settings without a group are under ""."""
    groups: dict[str, dict[str, object]] = {}
    for name, value in overrides.items():
        setting = find_setting(name)
        groups.setdefault(setting.group, {})[setting.field] = value
    return groups


def _validate(content: Mapping[str, object], overrides: Mapping[str, object], registries: Registries) -> Settings:
    """Return the settings in nested `content`; an error names the invalid one of `overrides`."""
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise SETTINGS[name].make_refusal(overrides[name], problem["type"], registries.get(name, ())) from error
    for name, known in registries.items():
        if name in overrides:
            SETTINGS[name].refuse_unknown(settings.value(name), known)
    return settings
