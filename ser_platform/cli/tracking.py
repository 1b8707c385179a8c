"""`ser tracking`: what MLflow holds of this folder's studies."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ser_platform.cli.options import JsonOption
from ser_platform.cli.output import console, make_table, print_json
from ser_platform.errors import UserError, WorkFailed

SERVER_FOLDER = Path("mlflow-server")
app = typer.Typer(no_args_is_help=True, help="What MLflow holds of the studies of this folder.")


@app.callback()
def main() -> None:
    """What MLflow holds of the studies of this folder."""


@app.command()
def server(
    folder: Annotated[
        Path, typer.Option(metavar="SERVER_FOLDER", help="Where it keeps what it is given.")
    ] = SERVER_FOLDER,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    allowed_hosts: Annotated[
        list[str] | None, typer.Option("--allowed-host", metavar="NAME", help="A name that it may be called by.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 2,
    auth: Annotated[bool, typer.Option("--auth/--no-auth", help="Ask for a password; it is made when missing.")] = True,
) -> None:
    """Run a server for the runs and models of several people, in the foreground; Ctrl-C stops it.

    Runs go to PostgreSQL where MLFLOW_BACKEND_URI says so (postgresql+psycopg://USER:PASSWORD@HOST/DB), else to SQLite
    in the folder; artefacts into the folder, or to MLFLOW_ARTIFACTS_DESTINATION (s3://BUCKET). The first start makes a
    password for `admin` in FOLDER/admin_password, which only you can read.
    """
    from ser_platform.tracking.server import ServerPlan

    plan = ServerPlan(folder, host, port, tuple(allowed_hosts or ()), workers, auth)
    plan.refuse_open()
    plan.prepare()
    out = console()
    out.print(f"MLflow server: {plan.url}  (Ctrl-C stops it). To use it, here or elsewhere:", highlight=False)
    for line in plan.client_setup:
        out.print(f"  {line}", highlight=False, soft_wrap=True)
    sys.stdout.flush()
    os.execve(sys.executable, plan.command, plan.environment)


@app.command()
def gc(
    older_than: Annotated[float, typer.Option(metavar="DAYS", min=0.0, help="Of runs that ended so long ago.")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what files runs have left in MLflow, and remove old ones: reports, test predictions, models.

    The files of a run that has registered a version stay, whatever its age; figures and settings of all runs do.
    """
    from ser_platform.tracking import garbage_collection
    from ser_platform.tracking.mlflow_store import open_client

    found = garbage_collection.list_run_files(open_client())
    going = garbage_collection.select_old(found, older_than)
    removed = garbage_collection.remove_files(going) if yes else 0
    if as_json:
        print_json({"runs": [vars(each) | {"goes": each in going} for each in found], "removed_bytes": removed})
        return
    rows = [
        [each.name, _megabytes(each.size_bytes), ", ".join(each.versions) or "-", _fate(each in going, yes)]
        for each in found
    ]
    out = console()
    out.print(make_table("Files of runs", ["run", "MB", "holds", "goes"], rows))
    whole, part = (_megabytes(sum(each.size_bytes for each in some)) for some in (found, going))
    outcome = f"removed {part} MB" if yes else f"{part} MB would go: ser tracking gc --older-than {older_than:g} --yes"
    out.print(f"{whole} MB in all; {outcome if going else 'nothing is old enough to go'}", highlight=False)


def _fate(goes: bool, is_gone: bool) -> str:
    return "stays" if not goes else "gone" if is_gone else "yes"


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.1f}"


@app.command()
def sync(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY ...]", help="Default: all that wait.")] = None,
) -> None:
    """Send what MLflow did not take while it was away.

    A study goes on without MLflow: what happens waits in runs/NAME/spool.jsonl, with its times, and is sent when MLflow
    is back. This sends what a study has left behind when it ended before that. Nothing is written twice.
    """
    from ser_platform.settings import runs_folder
    from ser_platform.tracking.offline_queue import QUEUE_FILE
    from ser_platform.workflows.run_lock import hold_tuning_lock

    waiting = {path.parent.name: path.parent for path in sorted(runs_folder().glob(f"*/{QUEUE_FILE}"))}
    unknown = [name for name in studies or [] if name not in waiting]
    if unknown:
        raise UserError(f"nothing waits of {', '.join(unknown)}; waiting: {', '.join(waiting) or 'nothing'}")
    out = console()
    if not waiting:
        out.print("nothing waits: MLflow has taken all", highlight=False)
        return
    with hold_tuning_lock():  # a study that runs sends its own
        failed = [problem for name in studies or waiting if (problem := _send(waiting[name]))]
    if failed:
        raise WorkFailed("; ".join(failed))


def _send(folder: Path) -> str:
    """Send what waits of one study; return what went wrong."""
    from ser_platform.tracking.mlflow_store import open_client
    from ser_platform.tracking.runs import send_queued_events

    try:
        n_events = send_queued_events(open_client(), folder)
    except WorkFailed as error:
        return f"{folder.name}: {error}"
    console().print(f"{folder.name}: {n_events} events sent", highlight=False)
    return ""
