"""The command line: `ser VERB`. Heavy imports happen inside the verbs, so that `--help` answers at once."""

import sys

import typer

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
from ser_platform.errors import SerError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Tune, distil and use speech emotion recognition models. Start with: ser tune",
    epilog="Exit codes: 0 done, 1 the work failed, 2 wrong input. SER_HOME: caches; SER_CORPORA: where corpora lie.",
)
app.command()(tune.tune)
app.command()(train.train)
app.command(context_settings=submit.PASS_THROUGH)(submit.submit)
app.command()(evaluate.evaluate)
app.add_typer(corpora.app, name="corpora")
app.add_typer(features.app, name="features")
studies.app.command("extend")(extend.extend)
app.add_typer(studies.app, name="studies")
app.add_typer(distill.app, name="distill")
app.add_typer(tracking.app, name="tracking")
app.add_typer(models.app, name="models")
app.command()(predict.predict)
app.add_typer(schema.app, name="schema")
app.command()(ui.ui)


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Tune, distil and use speech emotion recognition models."""
    global _debug
    _debug = debug


_debug = False


def main() -> None:
    """Run the command line; an error of ours is one line and its exit code."""
    try:
        app(standalone_mode=True)
    except SerError as error:
        if _debug:
            raise
        print(f"ser: {escape_unprintable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written
        if _debug:
            raise
        print(f"ser: {escape_unprintable(str(error.filename or 'system'))}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
