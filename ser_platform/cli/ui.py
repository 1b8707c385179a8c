"""`ser ui`: the MLflow UI of this folder."""

import os
import sys
from typing import Annotated

import typer

from ser_platform.cli.options import format_examples

EXAMPLES = format_examples("ser ui", "ser ui --port 5050")


def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000) -> None:
    """Open the MLflow UI of this folder's runs on 127.0.0.1; Ctrl-C stops it."""
    from ser_platform.tracking.mlflow_store import find_tracking_uri, open_client
    from ser_platform.tracking.ui_view import list_links

    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    first, *others = list_links(open_client(), f"http://127.0.0.1:{port}")
    print(f"MLflow UI: {first}\nIt is ready after some seconds; Ctrl-C stops it.", flush=True)
    for line in others:
        print(f"  {line}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", find_tracking_uri()]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])
