"""The command line: `ser VERB`. Verbs import heavy packages when they run, so that `--help` is printed at once."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from ser_platform import __version__
from ser_platform.cli import (
    corpora,
    distill,
    evaluate,
    extend,
    features,
    models,
    predict,
    schema,
    studies,
    submit,
    tracking,
    train,
    tune,
    ui,
)
from ser_platform.cli.output import escape_unprintable
from ser_platform.cli.value_names import name_values
from ser_platform.errors import SerError

DATA, TRAIN, COMPARE, USE, MAINTAIN = "Data", "Train and tune", "Compare and promote", "Use a model", "Maintain"
ORDER = ("corpora", "features", "tune", "train", "studies", "distill", "submit", "evaluate", "models", "predict", "ui")
# MLflow, Ray and the Hugging Face hub send usage statistics unless these are set; a value of the user stays.
TELEMETRY_OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
REPORTED_PACKAGES = ("torch", "ray", "optuna", "mlflow", "transformers")
UsageError: Any = typer.BadParameter.__base__  # of Click, or of the copy of Click inside newer versions of Typer


class OrderedGroup(TyperGroup):
    """Lists commands in the order of use, others last."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=OrderedGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Tune, distil and use speech emotion recognition models. Start with: ser tune",
    epilog="Exit codes: 0 done, 1 the work failed, 2 wrong input.\n\n"
    "SER_HOME: folder of caches. SER_CORPORA: folder of corpora.",
)
app.add_typer(corpora.app, name="corpora", rich_help_panel=DATA)
app.add_typer(features.app, name="features", rich_help_panel=DATA)
app.command(rich_help_panel=TRAIN, epilog=tune.EXAMPLES)(tune.tune)
app.command(rich_help_panel=TRAIN, epilog=train.EXAMPLES)(train.train)
studies.app.command("extend", epilog=extend.EXAMPLES)(extend.extend)
app.add_typer(studies.app, name="studies", rich_help_panel=TRAIN)
app.add_typer(distill.app, name="distill", rich_help_panel=TRAIN)
app.command(rich_help_panel=TRAIN, epilog=submit.EXAMPLES, context_settings=submit.PASS_THROUGH)(submit.submit)
app.command(rich_help_panel=COMPARE, epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.add_typer(models.app, name="models", rich_help_panel=COMPARE)
app.command(rich_help_panel=USE, epilog=predict.EXAMPLES)(predict.predict)
app.add_typer(tracking.app, name="tracking", rich_help_panel=MAINTAIN)
app.add_typer(schema.app, name="schema", rich_help_panel=MAINTAIN)
app.command(rich_help_panel=MAINTAIN, epilog=ui.EXAMPLES)(ui.ui)


def _print_versions(is_given: bool) -> None:
    """Print the versions of the platform, of Python and of the main libraries, and exit."""
    if is_given:
        print(f"ser-platform {__version__}")
        print(f"python {platform.python_version()}")
        for name in REPORTED_PACKAGES:
            print(f"{name} {version(name)}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Print the traceback of an error."),
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the versions of the platform and of its main libraries.",
        callback=_print_versions,
        is_eager=True,
    ),
) -> None:
    """Tune, distil and use speech emotion recognition models."""
    global _debug
    _debug = debug


_debug = False


def main() -> None:
    """Run the command line; an error is one line on standard error, with exit code 1 or 2."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    command = typer.main.get_command(app)
    name_values(command)
    try:
        sys.exit(command(prog_name="ser", standalone_mode=False) or 0)
    except UsageError as error:
        message = _format_usage_error(error)
        if message:
            _exit_with([message], 2, error)
        sys.exit(2)  # a command without arguments has printed its help
    except typer.Abort as abort:
        _exit_with(["stopped; nothing was changed"], 1, abort)
    except SerError as error:
        _exit_with(error.lines, error.exit_code, error)
    except OSError as error:  # a full disk, a folder without write permission
        _exit_with([f"{error.filename or 'system'}: {error.strerror or error}"], 1, error)


def _exit_with(messages: Iterable[str], code: int, error: BaseException) -> NoReturn:
    if _debug:
        raise error
    for message in messages:
        print(f"ser: {escape_unprintable(message)}", file=sys.stderr)
    sys.exit(code)


def _format_usage_error(error: Any) -> str:
    """Return one line: the wrong word of a command, what is valid, and the help to read."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if not message:
        return ""
    if hasattr(error.__cause__, "errors"):  # newer versions of Typer leave out the value
        given = str(error.__cause__.errors()[0]["input"])
        message = message.replace("Invalid value", f"Invalid value {given!r}", 1)
    context = error.ctx
    if message.startswith("No such command"):
        choices = ", ".join(context.command.list_commands(context))
        message = f"{message.partition('. ')[0]}; choose from: {choices}"
    path = "ser" if context is None else context.command_path
    return f"{message[0].lower()}{message[1:]}; see: {path} --help"
