"""Every setting of a training configuration: its name, type, default, valid values and meaning; and the environment.

Here: `Settings`, complete and typed; `Overrides`, some of them by dotted name; parsing, checks and JSON schemas.
Not here: the names in registries of higher layers (architectures, feature sets, recipes), which are passed in.

The modules that need pydantic are imported when first used: `ser --help` and code that needs only a folder start
faster without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ser_platform.settings.environment import corpora_folder, home, runs_folder, slots

if TYPE_CHECKING:
    from ser_platform.settings.assignments import parse_assignments
    from ser_platform.settings.schema import member_schema, settings_schema, value_schema
    from ser_platform.settings.settings import OF_A_STUDY, SETTINGS, Settings, check, check_overrides, resolve
    from ser_platform.settings.table import Setting
    from ser_platform.settings.values import JsonValue, Overrides, Registries, SettingValue, as_json

__all__ = [
    "OF_A_STUDY",
    "SETTINGS",
    "JsonValue",
    "Overrides",
    "Registries",
    "Setting",
    "SettingValue",
    "Settings",
    "as_json",
    "check",
    "check_overrides",
    "corpora_folder",
    "home",
    "member_schema",
    "parse_assignments",
    "resolve",
    "runs_folder",
    "settings_schema",
    "slots",
    "value_schema",
]

MODULES = ("assignments", "schema", "settings", "table", "values")

if not TYPE_CHECKING:  # mypy would accept any name of the package

    def __getattr__(name: str) -> object:
        for module in map(import_module, (f"{__name__}.{module}" for module in MODULES if name in __all__)):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
