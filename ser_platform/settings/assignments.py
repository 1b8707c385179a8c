"""Settings on a command line: `--set key=value`."""

from collections.abc import Iterable

import yaml

from ser_platform.errors import UserError
from ser_platform.settings.settings import NO_REGISTRIES, check, find_setting
from ser_platform.settings.values import Registries, SettingValue
from ser_platform.settings.yaml_loader import YamlLoader


def parse_assignments(assignments: Iterable[str], registries: Registries = NO_REGISTRIES) -> dict[str, SettingValue]:
    """Read `key=value` words; values are YAML, so `features.sets=[log_mel, zcr]` is a list.

    Args:
        assignments: the words; the last one for a key wins.
        registries: the valid names of settings that choose from a registry; without them any name is valid.

    Raises:
        UserError: a word has no `=`, or its key or value is invalid.
    """
    parsed: dict[str, SettingValue] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set takes key=value; got {assignment!r}")
        find_setting(name)
        try:
            parsed[name] = check(name, yaml.load(text, Loader=YamlLoader), registries)
        except yaml.YAMLError as error:
            raise UserError(f"{name}: {text!r} is not YAML") from error
    return parsed
