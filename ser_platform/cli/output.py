"""How verbs answer: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Return the console of standard output; a log that is no terminal gets lines of 160 columns.

    Without markup: names come from strangers, and `[/b]` is one.
    """
    return Console(markup=False, width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty())


def error_console() -> Console:
    """Return the console of standard error, for progress beside JSON."""
    return Console(
        stderr=True, markup=False, width=None if sys.stderr.isatty() else 160, soft_wrap=not sys.stderr.isatty()
    )


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    print(json.dumps(content, indent=1))


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table; columns whose cells are all numbers stand to the right."""
    made = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        numeric = all(row[number][:1].isdigit() or row[number] in ("", "-") for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def format_test_uar(metrics: Mapping[str, float], n_test_evaluations: str = "") -> str:
    """Return a test UAR with its interval and what it rests on."""
    if "test_uar" not in metrics:
        return "-"
    text = f"{metrics['test_uar']:.3f} [{metrics['test_uar_low']:.3f}, {metrics['test_uar_high']:.3f}]"
    text += _format_speakers(int(metrics.get("test_speakers", 0)))
    return f"{text}, look {n_test_evaluations}" if n_test_evaluations else text


def _format_speakers(speakers: int) -> str:
    """Tell how many speakers a figure is about; of fewer than eight it says nothing beyond them."""
    if speakers >= 8:
        return f", {speakers} speakers"
    return {0: "", 1: " this speaker only"}.get(speakers, f" these {speakers} speakers only")


def escape_unprintable(text: str) -> str:
    """Return text with what no line should hold (newlines, escapes, broken letters) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
