"""Output of the verbs: tables and lines for people, JSON for scripts."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ser_platform.progress import Display

LOG_WIDTH = 100  # columns of a table in an output that is not a terminal, unless COLUMNS is smaller
LONGEST_WORD = 16  # columns; a longer word may be divided where a table is too wide
GAP = 2  # columns between two cells


def make_console(*, stderr: bool = False) -> Console:
    """Return the console of standard output or standard error.

    It interprets no markup, because a file name may contain some. A line that is too long for a terminal is wrapped; in
    a log it stays one line.
    """
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(stderr=stderr, markup=False, highlight=False)
    columns = os.environ.get("COLUMNS", "")
    width = min(LOG_WIDTH, int(columns)) if columns.isdecimal() and int(columns) else LOG_WIDTH
    return Console(stderr=stderr, markup=False, highlight=False, width=width, soft_wrap=True)


def make_display(*, as_json: bool = False) -> "Display":
    """Return the display of progress: on standard output, or beside JSON on standard error."""
    from ser_platform.progress import Display

    return Display(make_console(stderr=as_json))


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    print(json.dumps(content, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that is at most as wide as the output; columns of numbers are aligned to the right."""
    out = make_console()
    widths = fit_widths([columns, *rows], out.width - GAP * (len(columns) - 1))
    wraps = any(cell_len(cell) > width for row in rows for cell, width in zip(row, widths, strict=True))
    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        leading=int(wraps),
    )
    for number, (name, width) in enumerate(zip(columns, widths, strict=True)):
        is_numeric = all(row[number][:1].isdigit() or row[number] in ("", "-") for row in rows)
        table.add_column(name, justify="right" if is_numeric else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    out.print(table, soft_wrap=False)


def fit_widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of columns, `width` in all at most, such that cells are wrapped between words where possible.

    The first column contains names, so its words are the last to be divided. Space that the longest words leave is
    added where the longest cell has the most lines.
    """
    cells = list(zip(*rows, strict=True))
    widest = [max(1, *map(cell_len, column)) for column in cells]
    words = [[cell_len(word) for cell in column for word in cell.split()] for column in cells]
    widths = [max([1, *(min(n, LONGEST_WORD if place else width) for n in each)]) for place, each in enumerate(words)]
    places = range(len(widths))
    while sum(widths) > max(width, len(widths)):
        widths[max(places, key=lambda place: (widths[place] if place else widths[place] / 3, place))] -= 1
    while sum(widths) < min(width, sum(widest)):
        widths[max(places, key=lambda place: widest[place] / widths[place])] += 1
    return widths


def format_test_uar(
    metrics: Mapping[str, float], n_test_evaluations: str = "", *, in_percent: bool = False, with_speakers: bool = True
) -> str:
    """Return a test UAR, its interval, the number of speakers, and how many evaluations the test clips had by then."""
    if "test_uar" not in metrics:
        return "-"
    figures = (metrics[name] for name in ("test_uar", "test_uar_low", "test_uar_high"))
    value, low, high = (f"{100 * figure:.1f}" if in_percent else f"{figure:.3f}" for figure in figures)
    text = f"{value} [{low}, {high}]"
    text += _format_speakers(int(metrics.get("test_speakers", 0))) if with_speakers else ""
    return f"{text}, test evaluation {n_test_evaluations}" if n_test_evaluations else text


def _format_speakers(speakers: int) -> str:
    """Return the number of speakers; fewer than eight do not represent others."""
    if speakers >= 8:
        return f", {speakers} speakers"
    return {0: "", 1: " this speaker only"}.get(speakers, f" these {speakers} speakers only")


def escape_unprintable(text: str) -> str:
    """Return text in which unprintable characters (newlines, terminal codes, invalid bytes) are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
