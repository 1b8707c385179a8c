"""The time line of a study: when each of its phases ran, and which trial ran in which slot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from ser_platform.tuning.report.figures import ACCENT, INK, PALE, save_figure
from ser_platform.tuning.study.trial_outcome import UNTRAINED_OUTCOMES, Outcome, read_outcome

TIMELINE_FILE = "timeline.png"
SEARCH = "search"
COLOURS = {Outcome.COMPLETE: INK, Outcome.PRUNED: PALE, Outcome.FAILED: ACCENT}
LABELS = {Outcome.COMPLETE: "complete", Outcome.PRUNED: "stopped early", Outcome.FAILED: "failed"}
MIN_PHASE_S = 0.1  # seconds; a shorter phase had nothing to do
MIN_LABEL_SHARE = 0.02  # of the width of the figure: narrower bars have no number

Span = tuple[float, float]  # start and end in seconds since 1970


def write_timeline(summary: Mapping[str, Any], trials: Sequence[FrozenTrial], folder: Path) -> dict[str, str]:
    """Write the time line of a study as a PNG; return its caption by file name, {} where nothing has ended."""
    figure = draw_timeline(list_phases(summary), trials)
    if figure is None:
        return {}
    save_figure(figure, folder / TIMELINE_FILE)
    return {TIMELINE_FILE: "Phases of the study, and trials by slot"}


def list_phases(summary: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (name, start, end) of each phase in a study's summary, in the order of their start."""
    phases = [(SEARCH, began, ended) for began, ended in summary.get("searches", ()) if ended is not None]
    stored = summary.get("phases", ())
    phases += [(name, began, ended) for name, began, ended in stored if ended - began >= MIN_PHASE_S]
    return sorted(phases, key=lambda phase: phase[1])


def assign_slots(spans: Sequence[Span]) -> list[int]:
    """Return the slot of each span, the first one that is free at its start; spans are in the order of their start."""
    free_at: list[float] = []
    slots = []
    for began, ended in spans:
        slot = next((number for number, time in enumerate(free_at) if time <= began), len(free_at))
        free_at[slot : slot + 1] = [ended]
        slots.append(slot)
    return slots


def draw_timeline(phases: Sequence[tuple[str, float, float]], trials: Sequence[FrozenTrial]) -> Figure | None:
    """Return bars of the phases and, below them, of the trials by slot, over the time since the first one in seconds.

    The dark part of a trial's bar is the time in which it was trained. None where no phase and no trial has ended.
    """
    timed = sorted(
        (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp(), trial)
        for trial in trials
        if trial.datetime_start and trial.datetime_complete and read_outcome(trial) not in UNTRAINED_OUTCOMES
    )
    if not phases and not timed:
        return None
    spans = [(began, ended) for began, ended, _ in timed]
    slots = assign_slots(spans)
    origin = min(began for began, _ in [*(phase[1:] for phase in phases), *spans])
    width = max(ended for _, ended in [*(phase[1:] for phase in phases), *spans]) - origin
    rows = list(dict.fromkeys(name for name, _, _ in phases))
    names = [*rows, *(f"slot {number + 1}" for number in range(max(slots, default=-1) + 1))]
    figure = Figure(figsize=(8.0, 1.2 + 0.3 * len(names)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    for name, began, ended in phases:
        axes.barh(rows.index(name), ended - began, left=began - origin, color=INK, height=0.6)
        axes.text(ended - origin, rows.index(name), f" {ended - began:.0f} s", va="center", fontsize=8)
    for (began, ended, trial), slot in zip(timed, slots, strict=True):
        outcome, row = read_outcome(trial), len(rows) + slot
        trained = min(trial.user_attrs.get("metrics", {}).get("train_seconds", 0.0), ended - began)
        axes.barh(row, ended - began, left=began - origin, color=COLOURS[outcome], alpha=0.35, height=0.8)
        axes.barh(row, trained, left=ended - origin - trained, color=COLOURS[outcome], height=0.8, edgecolor="white")
        if trained > MIN_LABEL_SHARE * width:
            middle, colour = ended - origin - trained / 2, "black" if outcome == Outcome.PRUNED else "white"
            axes.text(middle, row, str(trial.number), ha="center", va="center", fontsize=8, color=colour)
    for outcome in dict.fromkeys(read_outcome(trial) for _, _, trial in timed):
        axes.barh(0, 0, color=COLOURS[outcome], label=LABELS[outcome])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_xlim(0, 1.07 * width)
    axes.set_xlabel("seconds since the study began; dark: a trial is trained")
    if timed:
        figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure
