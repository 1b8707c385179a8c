"""Figures of a study as PNG: search history, importance and effects of axes, cost of a trial, Pareto set.

Trial states differ by marker shape, not by colour alone, so that the figures can be printed in black and white.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ser_platform.files import replacing
from ser_platform.tuning.report.axis_effects import ValueEffect, estimate_value_effects, format_value
from ser_platform.tuning.report.importance import Importance
from ser_platform.tuning.report.subset_effects import MemberEffect, estimate_member_effects
from ser_platform.tuning.report.trial_table import NUMERIC, SUBSET, SearchedAxis, TrialTable
from ser_platform.tuning.study.pareto import mark_pareto_front
from ser_platform.tuning.study.trial_outcome import Outcome

INK, PALE, ACCENT = "#2c5f8a", "#9aa7b3", "#b03a2e"
MAX_SHOWN_AXES = 6  # axes with a figure of their own
MAX_PARALLEL_AXES = 12
PARETO_TERM = "trials that no other trial beats in every objective"


def draw_study_figures(
    table: TrialTable,
    found: Importance,
    objectives: Sequence[tuple[str, bool, NDArray[np.float64]]],
    winner: int,
    folder: Path,
) -> dict[str, str]:
    """Draw the figures for which there is data and write PNGs; return their captions by file name.

    Args:
        table, found: the study's trials and the importance of its axes.
        objectives: name, whether more is better, and the value of each scored trial `(n_scored,)`.
        winner: number of the trial that gets a ring.
        folder: an existing folder for the PNGs.
    """
    if not table.scored:
        return {}
    drawn = {"history.png": ("dev UAR of each trial, in the order of the search", draw_history(table, winner))}
    if found.axes:
        drawn["importance.png"] = ("Importance of each setting", _draw_importance(found))
    for axis in select_axes(table, found):
        if axis.kind == SUBSET:
            if found_members := estimate_member_effects(table, axis):
                drawn[f"axis-{axis.name}.png"] = (f"Gain of each member of {axis.name}", _draw_members(found_members))
        elif steps := estimate_value_effects(table, axis):
            drawn[f"axis-{axis.name}.png"] = (f"dev UAR against {axis.name}", _draw_values(table, axis, steps))
    named = {axis.name: axis for axis in table.axes}
    if {"distill.temperature", "distill.alpha"} <= named.keys():
        drawn["distillation.png"] = (
            "dev UAR over temperature and alpha",
            _draw_plane(table, named["distill.temperature"], named["distill.alpha"], winner),
        )
    if len(table.axes) > 1 and len(table.scored) > 1:
        drawn["parallel.png"] = ("Settings of all trials", _draw_parallel(table, found))
    for name, label in (("parameters", "parameters"), ("train_seconds", "training time (s)")):
        if len({trial.metrics[name] for trial in table.scored if trial.metrics.get(name, 0) > 0}) > 1:
            drawn[f"cost-{name}.png"] = (f"dev UAR against {label}", _draw_cost(table, name, label))
    if len(objectives) > 1:
        drawn["pareto.png"] = (f"Pareto set: {PARETO_TERM}", _draw_pareto(objectives))
    for name, (_, figure) in drawn.items():
        save_figure(figure, folder / name)
    return {name: title for name, (title, _) in drawn.items()}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)  # no global state of pyplot: safe in any thread


def select_axes(table: TrialTable, found: Importance) -> list[SearchedAxis]:
    """Return the axes that get a figure: duration limit and feature sets first, then those with an effect."""
    first = [axis for axis in table.axes if axis.name in ("data.max_seconds", "features.sets")]
    with_effect = [each.axis for each in found.axes if each.has_effect]
    return list(dict.fromkeys([*first, *with_effect]))[:MAX_SHOWN_AXES]


def _make_figure(width: float = 7.0, height: float = 3.8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _add_legend(figure: Figure, n_columns: int) -> None:
    figure.legend(loc="outside upper right", ncols=n_columns, frameon=False, fontsize=9)


def _draw_points(axes: Axes, table: TrialTable, places: Sequence[float], scores: Sequence[float]) -> None:
    complete = np.array([trial.state == Outcome.COMPLETE for trial in table.scored])
    x, y = np.array(places, dtype=float), np.array(scores, dtype=float)
    axes.scatter(x[complete], y[complete], s=26, color=INK, label="complete", zorder=3)
    if not complete.all():
        axes.scatter(
            x[~complete], y[~complete], s=26, marker="x", linewidths=1, color=PALE, label="stopped early", zorder=2
        )


def _draw_ring(axes: Axes, places: Sequence[tuple[float, float]]) -> None:
    """Draw a ring at the place of the winner; without a place, none."""
    for x, y in places:
        axes.scatter(x, y, s=190, facecolors="none", edgecolors=ACCENT, linewidths=1.8, label="winner")


def draw_history(table: TrialTable, winner: int) -> Figure:
    """Return the scores of the trials in the order of the search; the trial `winner` has a ring."""
    figure, axes = _make_figure()
    numbers, scores = [t.number for t in table.scored], [t.best_dev_uar for t in table.scored]
    _draw_points(axes, table, numbers, scores)
    axes.step(numbers, np.maximum.accumulate(scores), where="post", color=ACCENT, linewidth=1.6, label="best so far")
    _draw_ring(axes, [(t.number, t.best_dev_uar) for t in table.scored if t.number == winner])
    axes.set_xlabel("trial")
    axes.set_ylabel("best dev UAR of the trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(figure, 4)
    return figure


def _draw_importance(found: Importance) -> Figure:
    names = [each.axis.name if each.has_effect else f"{each.axis.name} (no effect seen)" for each in found.axes]
    intervals = [(each.low, each.share, each.high) for each in found.axes]
    figure, axes = _draw_bars(names, intervals, [each.has_effect for each in found.axes])
    axes.set_xlim(0, 1)
    axes.set_xlabel("importance: share of the explained variation of dev UAR, 95 % interval")
    return figure


def _draw_members(found: Sequence[MemberEffect]) -> Figure:
    names = [f"{member.name} ({member.n_with} of {member.n_with + member.n_without})" for member in found]
    intervals = [(member.low, member.gain, member.high) for member in found]
    figure, axes = _draw_bars(names, intervals, [member.is_sure for member in found])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("mean dev UAR of the trials with the member minus that of the others, 95 % interval")
    return figure


def _draw_bars(
    names: Sequence[str], intervals: Sequence[tuple[float, float, float]], is_certain: Sequence[bool]
) -> tuple[Figure, Axes]:
    """Draw one bar for each name with its interval (low, value, high), filled if certain."""
    figure, axes = _make_figure(7.0, 1.1 + 0.34 * len(names))
    for place, ((low, value, high), certain) in enumerate(zip(intervals, is_certain, strict=True)):
        spread = [[max(value - low, 0)], [max(high - value, 0)]]
        colour = INK if certain else "white"
        axes.barh(place, value, xerr=spread, capsize=3, color=colour, edgecolor=INK, ecolor="black")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    return figure, axes


def _draw_values(table: TrialTable, axis: SearchedAxis, steps: Sequence[ValueEffect]) -> Figure:
    """Draw each trial, and the mean of each value with its 95 % interval."""
    figure, axes = _make_figure(7.0 if len(steps) <= 8 else 9.0)
    places = [step.place for step in steps]
    if axis.kind == NUMERIC:
        drawn = [np.nan if value is None else float(value) for value in table.list_values(axis)]
        _draw_points(axes, table, drawn, list(table.final_scores))
        if axis.is_log:
            axes.set_xscale("log")
    else:
        for step in steps:
            spread = np.linspace(-0.16, 0.16, len(step.scores)) if len(step.scores) > 1 else np.zeros(1)
            axes.scatter(step.place + spread, step.scores, s=16, color=PALE, zorder=2)
        axes.set_xticks(places, [step.label for step in steps])
        if len(steps) > 4:
            axes.tick_params(axis="x", labelrotation=30)
    errors = np.array([[s.mean - s.low for s in steps], [s.high - s.mean for s in steps]]).clip(min=0)
    line = "-" if axis.kind == NUMERIC else "none"
    axes.errorbar(
        places,
        [step.mean for step in steps],
        yerr=errors,
        color=ACCENT,
        marker="D",
        markersize=5,
        linestyle=line,
        capsize=4,
        zorder=4,
        label="mean, 95 % interval",
    )
    axes.set_xlabel(axis.label)
    axes.set_ylabel("dev UAR")
    _add_legend(figure, 3)
    return figure


def _draw_plane(table: TrialTable, across: SearchedAxis, up: SearchedAxis, winner: int) -> Figure:
    """Draw the trials that have both axes over them, shaded by dev UAR; the winner has a ring."""
    figure, axes = _make_figure()
    points = [
        (t.number, float(t.params[across.name]), float(t.params[up.name]), score)
        for t, score in zip(table.scored, table.final_scores, strict=True)
        if t.params.get(across.name) is not None and t.params.get(up.name) is not None
    ]
    if points:
        _, x, y, scores = np.array(points).T
        image = axes.scatter(x, y, c=scores, cmap="cividis", s=70, edgecolors="black", linewidths=0.5)
        figure.colorbar(image, label="dev UAR")
    if ringed := [(x, y) for number, x, y, _ in points if number == winner]:
        _draw_ring(axes, ringed)
        _add_legend(figure, 1)
    if across.is_log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(across.label)
    axes.set_ylabel(up.label)
    return figure


def _draw_parallel(table: TrialTable, found: Importance) -> Figure:
    ranked = [each.axis for each in found.axes] or list(table.axes)
    shown = ranked[:MAX_PARALLEL_AXES]
    figure, axes = _make_figure(2.0 + 1.15 * len(shown), 4.6)
    order = np.argsort(table.final_scores)
    best = set(order[-max(1, len(order) // 10) :].tolist())
    for place in order:
        trial = table.scored[place]
        heights = [_compute_height(axis, trial.params.get(axis.name)) for axis in shown]
        colour, width = (ACCENT, 1.8) if place in best else (PALE, 0.7)
        axes.plot(range(len(shown)), heights, marker="o", markersize=3, color=colour, linewidth=width)
    for place, axis in enumerate(shown):
        axes.axvline(place, color="black", linewidth=0.6)
        marks = _list_marks(axis)
        axes.text(place, -0.04, marks[0], ha="center", va="top", fontsize=8)
        for number, mark in enumerate(marks[1:-1], 1):
            axes.text(place + 0.04, number / (len(marks) - 1), mark, va="bottom", fontsize=8)
        if len(marks) > 1:
            axes.text(place, 1.04, marks[-1], ha="center", va="bottom", fontsize=8)
    axes.set_ylim(-0.14, 1.14)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks(range(len(shown)), [axis.label for axis in shown], rotation=30, ha="right")
    axes.tick_params(length=0)
    axes.set_title("red and thick: the best tenth of the trials", fontsize=9, loc="right")
    return figure


def _list_marks(axis: SearchedAxis) -> list[str]:
    """Return the labels of an axis from its lower end to its upper: both ends of a number, or all choices."""
    if axis.kind == SUBSET:
        return ["1 of them", f"all {len(axis.values)}"]
    return [format_value(value) for value in axis.values]


def _compute_height(axis: SearchedAxis, value: object) -> float:
    """Return the position of a value between an axis's ends, in [0, 1]; NaN if the axis does not exist (None)."""
    if value is None:
        return float("nan")
    if axis.kind == NUMERIC:
        return axis.scale(float(str(value)))
    if isinstance(value, list | tuple):  # a subset: by its number of members
        return (len(value) - 1) / max(len(axis.values) - 1, 1)
    return axis.values.index(value) / max(len(axis.values) - 1, 1)


def _draw_cost(table: TrialTable, name: str, label: str) -> Figure:
    figure, axes = _make_figure()
    costs, scores = [t.metrics.get(name, np.nan) for t in table.scored], [t.best_dev_uar for t in table.scored]
    _draw_points(axes, table, costs, scores)
    spent = [t.metrics[name] for t in table.scored if t.metrics.get(name, 0) > 0]
    if max(spent) > 20 * min(spent):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.4g}" if max(spent) < 1000 else "{x:,.0f}")
    axes.set_xlabel(label)
    axes.set_ylabel("best dev UAR of the trial")
    _add_legend(figure, 2)
    return figure


def _draw_pareto(objectives: Sequence[tuple[str, bool, NDArray[np.float64]]]) -> Figure:
    (up, _, y), (across, _, x) = objectives[:2]
    front = mark_pareto_front(np.stack([v for _, _, v in objectives], axis=1), [more for _, more, _ in objectives])
    figure, axes = _make_figure()
    axes.scatter(x[~front], y[~front], s=22, marker="x", color=PALE, label="beaten by another trial")
    order = np.argsort(x[front])
    axes.plot(x[front][order], y[front][order], "D--", color=ACCENT, label="Pareto set")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    _add_legend(figure, 2)
    return figure


def tabulate_importance(found: Importance) -> list[Mapping[str, object]]:
    """Return the importances as JSON objects."""
    return [
        {"axis": e.axis.name, "share": e.share, "low": e.low, "high": e.high, "has_effect": e.has_effect}
        for e in found.axes
    ]
