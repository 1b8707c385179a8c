"""A teacher, its distilled student and the undistilled student (the control) as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

CONTROL_COLUMNS = ("", "model", "UAR, 95 % interval", "agrees with teacher", "parameters", "weights", "latency, 3 s")


def tabulate_control(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells under `CONTROL_COLUMNS` of the rows of a control's JSON; UAR and agreement in percent."""
    return [
        [
            row["name"],
            f"{row['title']}, {row['model']}",
            f"{_percent(row['uar']['value'])} [{_percent(row['uar']['low'])}, {_percent(row['uar']['high'])}]",
            f"{100 * row['agreement']:.0f} %",
            f"{row['parameters']:,}",
            "removed" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e3:,.0f} kB",
            "-" if row["latency_ms"] is None else f"{row['latency_ms']:.1f} ms",
        ]
        for row in rows
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
