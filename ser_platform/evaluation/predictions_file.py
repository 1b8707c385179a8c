"""The file of predictions, `predictions.csv`: one row per clip."""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_predictions(
    path: Path,
    columns: Mapping[str, Collection[Any]],
    labels: tuple[str, ...] = (),
    probabilities: NDArray[np.float32] | None = None,
) -> None:
    """Write a CSV file with `columns`, their values by heading, and a column `p_EMOTION` for each of `labels`.

    `probabilities` `(n_clips, n_emotions)` are written with six decimals; None where there are no `labels`. A value
    that is None is written as "".
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(f"p_{label}" for label in labels)])
        rows = [()] * len(next(iter(columns.values()))) if probabilities is None else probabilities
        for *words, shares in zip(*columns.values(), rows, strict=True):
            writer.writerow([*words, *(f"{share:.6f}" for share in shares)])
