"""`ser tracking`: what MLflow holds of this folder's studies."""

from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.output import console
from ser_platform.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(no_args_is_help=True, help="What MLflow holds of the studies of this folder.")


@app.callback()
def main() -> None:
    """What MLflow holds of the studies of this folder."""


@app.command()
def sync(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY ...]", help="Default: all that wait.")] = None,
) -> None:
    """Send what MLflow did not take while it was away.

    A study goes on without MLflow: what happens waits in runs/NAME/spool.jsonl, with its times, and is sent when MLflow
    is back. This sends what a study has left behind when it ended before that. Nothing is written twice.
    """
    from ser_platform.settings import runs_folder
    from ser_platform.tracking.spool import NAME
    from ser_platform.tuning.lock import only_tuning

    waiting = {path.parent.name: path.parent for path in sorted(runs_folder().glob(f"*/{NAME}"))}
    unknown = [name for name in studies or [] if name not in waiting]
    if unknown:
        raise UserError(f"nothing waits of {', '.join(unknown)}; waiting: {', '.join(waiting) or 'nothing'}")
    out = console()
    if not waiting:
        out.print("nothing waits: MLflow has taken all", highlight=False)
        return
    with only_tuning():  # a study that runs sends its own
        failed = [told for name in studies or waiting if (told := _send(waiting[name]))]
    if failed:
        raise WorkFailed("; ".join(failed))


def _send(folder: "Path") -> str:
    """Send what waits of one study; return what went wrong."""
    from ser_platform.tracking.runs import send_waiting
    from ser_platform.tracking.store import open_client

    try:
        n_events = send_waiting(open_client(), folder)
    except WorkFailed as error:
        return f"{folder.name}: {error}"
    console().print(f"{folder.name}: {n_events} events sent", highlight=False)
    return ""
