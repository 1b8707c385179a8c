"""Plots of test results and training: confusion matrix, recalls, learning curves, distillation control."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ser_platform.evaluation.intervals import Interval
from ser_platform.metrics import recalls
from ser_platform.training.epoch_result import EpochResult

CONTROL_COLOURS = ("#7a7a7a", "#c98b3f", "#4878a8")  # of teacher, undistilled and distilled student


def draw_confusion_matrix(matrix: NDArray[np.int64], labels: tuple[str, ...], title: str, path: Path) -> None:
    """Draw counts `(n_emotions, n_emotions)`, coloured by their share of the true class; write a PNG."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 1.5 + 0.75 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=ink)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    _save(figure, path)


def draw_recalls(matrix: NDArray[np.int64], labels: tuple[str, ...], title: str, path: Path) -> None:
    """Draw the recall of each emotion in the truth, and chance level; write a PNG."""
    present = np.flatnonzero(matrix.sum(axis=1))
    figure = Figure(figsize=(6, 0.8 + 0.4 * len(present)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([labels[row] for row in present], recalls(matrix)[present], color="#4878a8")
    axes.axvline(1 / len(labels), color="black", linestyle=":", label="chance")
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.set_xlabel("recall")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    _save(figure, path)


def draw_learning_curves(epochs: Sequence[EpochResult], title: str, path: Path) -> None:
    """Draw losses and dev UAR of every epoch, and mark the epoch whose weights are kept; write a PNG."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    steps = [each.epoch for each in epochs]
    losses.plot(steps, [each.train_loss for each in epochs], label="train", color="#4878a8")
    losses.plot(steps, [each.dev_loss for each in epochs], label="dev", color="#c86428")
    losses.set_ylabel("loss")
    losses.legend(fontsize=8)
    scores.plot(steps, [each.dev_uar for each in epochs], color="#c86428")
    scores.set_ylabel("dev UAR")
    scores.set_ylim(0, 1)
    for axes in (losses, scores):
        axes.axvline(epochs[-1].best_epoch, color="black", linestyle=":", linewidth=1)
        axes.set_xlabel("epoch (dotted: weights kept)")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def draw_control_figure(rows: Sequence[tuple[str, Interval]], verdict: str, path: Path) -> None:
    """Draw the UAR of each row with its interval, `verdict` in the title; write a PNG."""
    figure = Figure(figsize=(7, 1.4 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (colour, (_, uar)) in enumerate(zip(CONTROL_COLOURS, rows, strict=True)):
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
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)  # no global state of pyplot: safe in any thread
