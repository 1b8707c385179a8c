"""A teacher, its distilled student and the control arm (the undistilled student) as a figure and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ser_platform.evaluation.intervals import Interval

COLOURS = ("#7a7a7a", "#c98b3f", "#4878a8")
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
            "gone" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e3:,.0f} kB",
            "-" if row["latency_ms"] is None else f"{row['latency_ms']:.1f} ms",
        ]
        for row in rows
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def control_figure(rows: Sequence[tuple[str, Interval]], verdict: str, path: Path) -> None:
    """Draw each row's UAR with its interval, and say what was gained; write a PNG."""
    figure = Figure(figsize=(7, 1.4 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (colour, (_, uar)) in enumerate(zip(COLOURS, rows, strict=True)):
        axes.plot([100 * uar.low, 100 * uar.high], [place, place], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(100 * uar.value, place, "o", color=colour, markersize=8)
        axes.annotate(
            f"{100 * uar.value:.1f}", (100 * uar.value, place), (0, 8), textcoords="offset points", ha="center"
        )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel("UAR, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"distillation: {verdict}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
