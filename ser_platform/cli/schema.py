"""`ser schema`: the JSON schemas of what users write, for editors and other programs."""

import json

import typer

from ser_platform.cli.options import format_examples

app = typer.Typer(no_args_is_help=True, help="Print the JSON schemas of settings and of search-space files.")


@app.command(epilog=format_examples("ser schema settings", "ser schema settings > settings.json"))
def settings() -> None:
    """Print the JSON schema of settings by dotted name, with the names of models, feature sets and recipes."""
    from ser_platform.settings import settings_schema
    from ser_platform.tuning.search_space.registered_names import REGISTRIES

    print(_format_json(settings_schema(REGISTRIES)))


@app.command(epilog=format_examples("ser schema space", "ser schema space > search_spaces/schema.json"))
def space() -> None:
    """Print the JSON schema of search-space files; search_spaces/schema.json is a copy of it."""
    from ser_platform.tuning.search_space.space_schema import space_schema

    print(_format_json(space_schema()))


def _format_json(content: object, indent: str = "") -> str:
    """Return JSON text in which objects and arrays of up to 120 characters are on one line."""
    line = json.dumps(content)
    if len(line) <= 120:
        return line
    inner, parts = f"{indent} ", []
    if isinstance(content, dict):
        parts = [f"{json.dumps(key)}: {_format_json(value, inner)}" for key, value in content.items()]
    elif isinstance(content, list):
        parts = [_format_json(value, inner) for value in content]
    if not parts:
        return line
    text = ",\n".join(f"{inner}{part}" for part in parts)
    return f"{line[0]}\n{text}\n{indent}{line[-1]}"
