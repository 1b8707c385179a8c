"""Histograms of the durations, levels, pauses and noise of clips as SVG."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ser_platform.corpora.doctor.examination_report import duration_histogram
from ser_platform.corpora.doctor.measurements import ClipMeasurements

SIZE = (5.4, 2.9)  # inches
COLOUR, MEDIAN = "#4878a8", "#b03a2e"
N_BINS = 30


def draw_figures(measures: Sequence[ClipMeasurements]) -> dict[str, bytes]:
    """Return the content of SVG files by title, {} where there are no clips."""
    if not measures:
        return {}
    seconds = np.array([clip.seconds for clip in measures])
    snr = np.array([clip.snr_db for clip in measures])
    pauses = np.array([clip.silence for clip in measures])
    peaks = 20 * np.log10([clip.peak for clip in measures])
    return {
        "Durations": _draw_histogram(seconds, np.array(duration_histogram(list(seconds)).edges), "seconds"),
        "Speech over noise": _draw_histogram(snr, _make_db_edges(snr), "dB, estimated"),
        "Pauses": _draw_histogram(100 * pauses, np.linspace(0, 100, 41), "% of a clip"),
        "Peak level": _draw_histogram(peaks, _make_db_edges(peaks), "dB, 0 is full scale"),
    }


def _make_db_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges around the values over at least 10 dB, so that equal clips do not fill the width with one bar."""
    middle, half = (values.max() + values.min()) / 2, max(np.ptp(values) / 2, 5.0)
    return np.linspace(middle - half, middle + half, N_BINS + 1)


def _draw_histogram(values: NDArray[np.float64], edges: NDArray[np.float64], unit: str) -> bytes:
    """Return a histogram of the values with their median as SVG."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values, bins=edges.tolist(), color=COLOUR, edgecolor="white", linewidth=0.6)
    median = float(np.median(values))
    axes.axvline(median, color=MEDIAN, linewidth=1.5, label=f"median {median:.3g}")
    axes.set_xlabel(unit)
    axes.set_ylabel("clips")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(top=1.18 * axes.get_ylim()[1])  # room for the legend above the bars
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    out = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()
