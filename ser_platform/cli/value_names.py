"""What the help prints beside a parameter: Typer would print `<bool>` beside flags and `<int range>` beside numbers."""

from typing import Any

import typer


def name_values(command: Any) -> None:
    """Make the help of a command and its subcommands print a name beside options, and nothing beside the rest."""
    for parameter in (*command.params, command.get_help_option(typer.Context(command))):
        if parameter.param_type_name == "argument":
            parameter.display_type = lambda ctx: ""
        elif parameter.is_flag:
            parameter.metavar = ""
        elif parameter.metavar is None:
            parameter.metavar = parameter.name.upper()
    for each in getattr(command, "commands", {}).values():
        name_values(each)
