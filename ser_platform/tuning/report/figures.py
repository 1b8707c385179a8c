"""Figures of a study as PNG: how the search went, which axes matter and how, what a trial costs.

States differ by shape and filling, not by colour alone: the figures are read in black and white too.
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
from ser_platform.tuning.study.pareto import pareto_front
from ser_platform.tuning.study.trial_outcome import Outcome

INK, PALE, ACCENT = "#2c5f8a", "#9aa7b3", "#b03a2e"
MAX_SHOWN_AXES = 6  # each has a figure
MAX_PARALLEL_AXES = 12  # axes of the parallel coordinates


def draw_study_figures(
    table: TrialTable,
    found: Importance,
    objectives: Sequence[tuple[str, bool, NDArray[np.float64]]],
    folder: Path,
) -> dict[str, str]:
    """Draw what there is to see and write PNGs; return their titles by file name.

    Args:
        table, found: the study's trials, and which axes matter.
        objectives: name, whether more is better, and the value of each scored trial `(n_scored,)`.
        folder: where the files go.
    """
    if not table.scored:
        return {}
    drawn = {"history.png": ("The search, trial by trial", _history(table))}
    if found.axes:
        drawn["importance.png"] = ("What matters", _importance(found))
    for axis in axes_to_show(table, found):
        if axis.kind == SUBSET:
            if found_members := estimate_member_effects(table, axis):
                drawn[f"axis-{axis.name}.png"] = (f"What members of {axis.name} gain", _members(found_members))
        elif steps := estimate_value_effects(table, axis):
            drawn[f"axis-{axis.name}.png"] = (f"dev UAR against {axis.name}", _slice(table, axis, steps))
    named = {axis.name: axis for axis in table.axes}
    if {"distill.temperature", "distill.alpha"} <= named.keys():
        drawn["distillation.png"] = (
            "dev UAR over temperature and alpha",
            _plane(table, named["distill.temperature"], named["distill.alpha"]),
        )
    if len(table.axes) > 1 and len(table.scored) > 1:
        drawn["parallel.png"] = ("Every trial's settings", _parallel(table, found))
    for name, label in (("parameters", "parameters"), ("train_seconds", "training time (s)")):
        if len({trial.metrics[name] for trial in table.scored if trial.metrics.get(name, 0) > 0}) > 1:
            drawn[f"cost-{name}.png"] = (f"dev UAR against {label}", _cost(table, name, label))
    if len(objectives) > 1:
        drawn["pareto.png"] = ("The Pareto set", _pareto(objectives))
    for name, (_, figure) in drawn.items():
        with replacing(folder / name) as temporary:
            FigureCanvasAgg(figure).print_png(temporary)  # no global state of pyplot: safe in any thread
    return {name: title for name, (title, _) in drawn.items()}


def axes_to_show(table: TrialTable, found: Importance) -> list[SearchedAxis]:
    """Return the axes with an effect, and those that people ask of first: duration limit and feature sets."""
    asked = [axis for axis in table.axes if axis.name in ("data.max_seconds", "features.sets")]
    moving = [each.axis for each in found.axes if each.has_effect]
    return list(dict.fromkeys([*asked, *moving]))[:MAX_SHOWN_AXES]


def _figure(width: float = 7.0, height: float = 3.8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _legend(figure: Figure, n_columns: int) -> None:
    figure.legend(loc="outside upper right", ncols=n_columns, frameon=False, fontsize=9)


def _points(axes: Axes, table: TrialTable, places: Sequence[float], scores: Sequence[float]) -> None:
    complete = np.array([trial.state == Outcome.COMPLETE for trial in table.scored])
    x, y = np.array(places, dtype=float), np.array(scores, dtype=float)
    axes.scatter(x[complete], y[complete], s=26, color=INK, label="complete", zorder=3)
    if not complete.all():
        axes.scatter(
            x[~complete], y[~complete], s=26, marker="x", linewidths=1, color=PALE, label="stopped early", zorder=2
        )


def _history(table: TrialTable) -> Figure:
    figure, axes = _figure()
    numbers, scores = [t.number for t in table.scored], [t.best_dev_uar for t in table.scored]
    _points(axes, table, numbers, scores)
    axes.step(numbers, np.maximum.accumulate(scores), where="post", color=ACCENT, linewidth=1.6, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("best dev UAR of the trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, 3)
    return figure


def _importance(found: Importance) -> Figure:
    names = [each.axis.name if each.has_effect else f"{each.axis.name} (no effect seen)" for each in found.axes]
    intervals = [(each.low, each.share, each.high) for each in found.axes]
    figure, axes = _bars(names, intervals, [each.has_effect for each in found.axes])
    axes.set_xlim(0, 1)
    axes.set_xlabel("importance: part of what is explained of dev UAR, 95 % interval")
    return figure


def _members(found: Sequence[MemberEffect]) -> Figure:
    names = [f"{member.name} ({member.n_with} of {member.n_with + member.n_without})" for member in found]
    intervals = [(member.low, member.gain, member.high) for member in found]
    figure, axes = _bars(names, intervals, [member.is_sure for member in found])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("dev UAR of the trials with it, less that of those without; 95 % interval")
    return figure


def _bars(
    names: Sequence[str], intervals: Sequence[tuple[float, float, float]], is_certain: Sequence[bool]
) -> tuple[Figure, Axes]:
    """Draw a bar a name with its interval (low, value, high), filled where it is certain."""
    figure, axes = _figure(7.0, 1.1 + 0.34 * len(names))
    for place, ((low, value, high), certain) in enumerate(zip(intervals, is_certain, strict=True)):
        spread = [[max(value - low, 0)], [max(high - value, 0)]]
        colour = INK if certain else "white"
        axes.barh(place, value, xerr=spread, capsize=3, color=colour, edgecolor=INK, ecolor="black")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    return figure, axes


def _slice(table: TrialTable, axis: SearchedAxis, steps: Sequence[ValueEffect]) -> Figure:
    """Draw each trial, and the mean of each value with its interval."""
    figure, axes = _figure(7.0 if len(steps) <= 8 else 9.0)
    places = [step.place for step in steps]
    if axis.kind == NUMERIC:
        drawn = [np.nan if value is None else float(value) for value in table.values(axis)]
        _points(axes, table, drawn, list(table.final_scores))
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
    _legend(figure, 3)
    return figure


def _plane(table: TrialTable, across: SearchedAxis, up: SearchedAxis) -> Figure:
    """Draw the trials in the plane of two axes, dev UAR by shade; the best is ringed."""
    figure, axes = _figure()
    pairs = [
        (float(t.params[across.name]), float(t.params[up.name]), score)
        for t, score in zip(table.scored, table.final_scores, strict=True)
        if t.params.get(across.name) is not None and t.params.get(up.name) is not None
    ]
    if pairs:
        x, y, scores = np.array(pairs).T
        image = axes.scatter(x, y, c=scores, cmap="cividis", s=70, edgecolors="black", linewidths=0.5)
        figure.colorbar(image, label="dev UAR")
        best = int(np.argmax(scores))
        axes.scatter(x[best], y[best], s=190, facecolors="none", edgecolors=ACCENT, linewidths=1.8, label="best")
        _legend(figure, 1)
    if across.is_log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(across.label)
    axes.set_ylabel(up.label)
    return figure


def _parallel(table: TrialTable, found: Importance) -> Figure:
    ranked = [each.axis for each in found.axes] or list(table.axes)
    shown = ranked[:MAX_PARALLEL_AXES]
    figure, axes = _figure(2.0 + 1.15 * len(shown), 4.6)
    order = np.argsort(table.final_scores)
    best = set(order[-max(1, len(order) // 10) :].tolist())
    for place in order:
        trial = table.scored[place]
        heights = [parallel_height(axis, trial.params.get(axis.name)) for axis in shown]
        colour, width = (ACCENT, 1.8) if place in best else (PALE, 0.7)
        axes.plot(range(len(shown)), heights, marker="o", markersize=3, color=colour, linewidth=width)
    for place, axis in enumerate(shown):
        axes.axvline(place, color="black", linewidth=0.6)
        marks = _marks(axis)
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


def _marks(axis: SearchedAxis) -> list[str]:
    """Return what stands at an axis from its lower end to its upper: the two ends of a number, all choices."""
    if axis.kind == SUBSET:
        return ["1 of them", f"all {len(axis.values)}"]
    return [format_value(value) for value in axis.values]


def parallel_height(axis: SearchedAxis, value: object) -> float:
    """Return where a value stands between an axis's ends, in [0, 1]; NaN where the axis did not exist."""
    if value is None:
        return float("nan")
    if axis.kind == NUMERIC:
        return axis.scale(float(str(value)))
    if isinstance(value, list | tuple):  # a subset stands by how many it has
        return (len(value) - 1) / max(len(axis.values) - 1, 1)
    return axis.values.index(value) / max(len(axis.values) - 1, 1)


def _cost(table: TrialTable, name: str, label: str) -> Figure:
    figure, axes = _figure()
    _points(axes, table, [t.metrics.get(name, np.nan) for t in table.scored], [t.best_dev_uar for t in table.scored])
    spent = [t.metrics[name] for t in table.scored if t.metrics.get(name, 0) > 0]
    if max(spent) > 20 * min(spent):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.4g}" if max(spent) < 1000 else "{x:,.0f}")
    axes.set_xlabel(label)
    axes.set_ylabel("best dev UAR of the trial")
    _legend(figure, 2)
    return figure


def _pareto(objectives: Sequence[tuple[str, bool, NDArray[np.float64]]]) -> Figure:
    (up, _, y), (across, _, x) = objectives[:2]
    front = pareto_front(np.stack([v for _, _, v in objectives], axis=1), [more for _, more, _ in objectives])
    figure, axes = _figure()
    axes.scatter(x[~front], y[~front], s=22, marker="x", color=PALE, label="beaten by another trial")
    order = np.argsort(x[front])
    axes.plot(x[front][order], y[front][order], "D--", color=ACCENT, label="Pareto set")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    _legend(figure, 2)
    return figure


def importance_rows(found: Importance) -> list[Mapping[str, object]]:
    """Return the importances as plain rows, for JSON and tables."""
    return [
        {"axis": e.axis.name, "share": e.share, "low": e.low, "high": e.high, "has_effect": e.has_effect}
        for e in found.axes
    ]
