"""How verbs answer: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Return the console of standard output; a log that is no terminal gets lines of 160 columns."""
    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty())


def error_console() -> Console:
    """Return the console of standard error, for progress beside JSON."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 160, soft_wrap=not sys.stderr.isatty())


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    print(json.dumps(content, indent=1))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table; columns whose cells are all numbers stand to the right."""
    made = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        numeric = all(row[number][:1].isdigit() or row[number] in ("", "-") for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def uar_text(metrics: Mapping[str, float], looks: str = "") -> str:
    """Return a test UAR with its interval and what it rests on."""
    if "test_uar" not in metrics:
        return "-"
    text = f"{metrics['test_uar']:.3f} [{metrics['test_uar_low']:.3f}, {metrics['test_uar_high']:.3f}]"
    speakers = int(metrics.get("test_speakers", 0))
    if 0 < speakers < 8:
        text += f" these {speakers} speakers only"
    return f"{text}, look {looks}" if looks else text
