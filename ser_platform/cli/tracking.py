"""`ser tracking`: the MLflow server and its files, and events waiting to be sent to it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ser_platform.cli.options import JsonOption, format_examples
from ser_platform.cli.output import make_console, print_json, print_table
from ser_platform.errors import UserError, WorkFailed

SERVER_FOLDER = Path("mlflow-server")
app = typer.Typer(no_args_is_help=True, help="Run an MLflow server, remove old files from MLflow, send waiting events.")


@app.command(
    epilog=format_examples("ser tracking server", "ser tracking server --host 0.0.0.0 --allowed-host mlflow.lab:5000")
)
def server(
    folder: Annotated[
        Path, typer.Option(metavar="SERVER_FOLDER", help="Folder of its database, artefacts and password.")
    ] = SERVER_FOLDER,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of them.")] = "127.0.0.1",
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="Accept requests to this host name; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of server processes.")] = 2,
    auth: Annotated[
        bool, typer.Option("--auth/--no-auth", help="Require the password in FOLDER/admin_password.")
    ] = True,
) -> None:
    """Run an MLflow server for the runs and models of several users, in the foreground; Ctrl-C stops it.\f

    Runs are stored in the database of MLFLOW_BACKEND_URI (postgresql+psycopg://USER:PASSWORD@HOST/DB), or in SQLite in
    the folder if it is not set; artefacts in MLFLOW_ARTIFACTS_DESTINATION (s3://BUCKET), or in the folder. Only the
    owner may read the password of `admin` in FOLDER/admin_password.
    """
    from ser_platform.tracking.server import ServerPlan
    from ser_platform.tracking.ui_view import EXPERIMENTS_PATH

    plan = ServerPlan(folder, host, port, tuple(allowed_hosts or ()), workers, auth)
    plan.refuse_open()
    plan.prepare()
    out = make_console()
    out.print(f"MLflow server: {plan.url}{EXPERIMENTS_PATH}  (Ctrl-C stops it). To use it from any machine:")
    for line in plan.client_setup:
        out.print(f"  {line}", soft_wrap=True)
    sys.stdout.flush()
    os.execve(sys.executable, plan.command, plan.environment)


@app.command(epilog=format_examples("ser tracking gc", "ser tracking gc --older-than 90 --yes"))
def gc(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0.0, help="Remove files of runs that ended more than DAYS days ago.")
    ] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files; without it they are only listed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the files of runs in MLflow (reports, test predictions, models), and remove old ones.\f

    The files of a run that has registered a version stay, whatever its age, and so do metrics and settings of all runs.
    """
    from ser_platform.tracking import garbage_collection
    from ser_platform.tracking.mlflow_store import open_client

    found = garbage_collection.list_run_files(open_client())
    old = garbage_collection.select_old(found, older_than)
    removed = garbage_collection.remove_files(old) if yes else 0
    if as_json:
        print_json({"runs": [vars(each) | {"goes": each in old} for each in found], "removed_bytes": removed})
        return
    rows = [
        [each.name, _format_megabytes(each.size_bytes), ", ".join(each.versions) or "-", _format_fate(each in old, yes)]
        for each in found
    ]
    print_table("Files of runs", ["run", "MB", "versions", "action"], rows)
    whole, part = (_format_megabytes(sum(each.size_bytes for each in some)) for some in (found, old))
    removal = f"{part} MB can be removed: ser tracking gc --older-than {older_than:g} --yes"
    outcome = f"removed {part} MB" if yes else removal
    make_console().print(f"{whole} MB in all; {outcome if old else 'no files are old enough to be removed'}")


def _format_fate(is_old: bool, is_removed: bool) -> str:
    return "stays" if not is_old else "removed" if is_removed else "can be removed"


def _format_megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.1f}"


@app.command(epilog=format_examples("ser tracking sync", "ser tracking sync student-ravdess-0101-120000-1a2b"))
def sync(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY", help="Default: all studies with waiting events.")
    ] = None,
) -> None:
    """Send to MLflow the events that were recorded while it could not be reached.\f

    A study continues without MLflow: its events wait in runs/NAME/spool.jsonl, with their times, and are sent when
    MLflow answers again. This verb sends the events of a study that ended before that. No event is written twice.
    """
    from ser_platform.settings import runs_folder
    from ser_platform.tracking.offline_queue import QUEUE_FILE
    from ser_platform.workflows.run_lock import hold_tuning_lock

    waiting = {path.parent.name: path.parent for path in sorted(runs_folder().glob(f"*/{QUEUE_FILE}"))}
    unknown = [name for name in studies or [] if name not in waiting]
    if unknown:
        choices = ", ".join(waiting) or "none"
        raise UserError(f"no events wait for {', '.join(unknown)}; studies with waiting events: {choices}")
    if not waiting:
        make_console().print("no events wait: MLflow has received all of them")
        return
    with hold_tuning_lock():  # a running study sends its own events
        failed = [problem for name in studies or waiting if (problem := _send(waiting[name]))]
    if failed:
        raise WorkFailed("; ".join(failed))


def _send(folder: Path) -> str:
    """Send the waiting events of one study; return an error message, "" on success."""
    from ser_platform.tracking.mlflow_store import open_client
    from ser_platform.tracking.runs import send_queued_events

    try:
        n_events = send_queued_events(open_client(), folder)
    except WorkFailed as error:
        return f"{folder.name}: {error}"
    make_console().print(f"{folder.name}: {n_events} events sent")
    return ""
