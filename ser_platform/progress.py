"""What a person sees while work goes on: a live line on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

REFRESH_S, LOG_EVERY_S = 0.25, 15.0  # seconds


class Display:
    """Shows progress; `print_line` prints a line that stays."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_line(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, highlight=False, markup=False)

    @contextlib.contextmanager
    def showing_line(self, line: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """Show `line()` as it changes; the block calls what is yielded as often as it likes."""
        shown_at = 0.0
        if self.console.is_terminal:
            with Live(Text(line()), console=self.console, refresh_per_second=4, transient=True) as live:

                def show() -> None:
                    nonlocal shown_at
                    if time.monotonic() - shown_at > REFRESH_S:
                        shown_at = time.monotonic()
                        live.update(Text(line()))

                yield show
        else:
            last = ""

            def log() -> None:
                nonlocal shown_at, last
                if time.monotonic() - shown_at > LOG_EVERY_S and (text := line()):
                    shown_at, last = time.monotonic(), text
                    self.print_line(text)

            yield log
            if line() == last:
                return
        if line():
            self.print_line(line())

    @contextlib.contextmanager
    def showing_progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show `what DONE/ALL`; the block calls what is yielded with both. Nothing is shown of nothing to do."""
        state, began = [0, 0], time.monotonic()

        def line() -> str:
            return f"{what} {state[0]}/{state[1]}  {format_minutes(time.monotonic() - began)}" if state[1] else ""

        with self.showing_line(line) as show:

            def count(done: int, everything: int) -> None:
                state[:] = [done, everything]
                show()

            yield count


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, like "1 speaker" and "2 speakers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_minutes(seconds: float) -> str:
    """Return minutes and seconds, like 2:05."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"
