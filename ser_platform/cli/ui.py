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
    from ser_platform.tracking.ui_view import VIEW_TAG, make_view_path

    experiments = [experiment for experiment in open_client().search_experiments() if VIEW_TAG in experiment.tags]
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    print(f"MLflow UI: http://127.0.0.1:{port}  (Ctrl-C stops it); it is ready after some seconds", flush=True)
    for experiment in experiments:
        page = f"http://127.0.0.1:{port}{make_view_path(experiment.experiment_id)}"
        print(f"  {experiment.name}, a comparison of its trials: {page}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", find_tracking_uri()]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])
