"""Plots of test results and training: confusion matrix, recall of each emotion, learning curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ser_platform.metrics import recalls
from ser_platform.training.epoch_result import EpochResult


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
    save_png(figure, path)


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
    save_png(figure, path)


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
    save_png(figure, path)


def save_png(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)  # no global state of pyplot: safe in any thread
