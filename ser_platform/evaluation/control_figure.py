"""The figure of a distillation control: UAR of the teacher and of both students."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.test_figures import save_png

COLOURS = ("#7a7a7a", "#c98b3f", "#4878a8")


def draw_control_figure(rows: Sequence[tuple[str, Interval]], verdict: str, path: Path) -> None:
    """Draw the UAR of each row with its interval, `verdict` in the title; write a PNG."""
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
    save_png(figure, path)
