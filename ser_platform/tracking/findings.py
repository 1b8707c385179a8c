"""What a study found, on its parent run: figures, a table, files."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, RunTag

from ser_platform.tracking.store import Client


def log_findings(
    client: Client,
    run_id: str,
    place: str,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    table: Mapping[str, Sequence[Any]],
    files: Iterable[Path],
) -> None:
    """Log figures and tags to a run, and `table` (columns by name) and `files` into its folder `place`."""
    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, 0) for name, value in figures.items() if math.isfinite(value)]
    client.log_batch(run_id, metrics, tags=[RunTag(name, value) for name, value in tags.items()])
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    # As `log_table` writes it, which appends to what is there: a report that is logged again has its rows once.
    client.log_dict(run_id, {"columns": list(table), "data": rows}, f"{place}/table.json")
    for path in files:
        client.log_artifact(run_id, str(path), place)
