"""Shows progress: a live line on a terminal, a line every 15 seconds in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

REFRESH_S, LOG_EVERY_S = 0.25, 15.0  # seconds


class Display:
    """Prints progress and lasting lines to a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def print_line(self, text: str) -> None:
        """Print a line that is not overwritten."""
        self.console.print(text, highlight=False, markup=False)

    @contextlib.contextmanager
    def show_line(self, line: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """Show the value of `line()` during the block. Yields a function that updates it; it may be called often."""
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
    def show_progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show `what DONE/ALL` during the block, nothing while ALL is 0. Yields a function that takes both numbers."""
        state, began = [0, 0], time.monotonic()

        def line() -> str:
            return f"{what} {state[0]}/{state[1]}  {format_minutes(time.monotonic() - began)}" if state[1] else ""

        with self.show_line(line) as show:

            def count(done: int, n_all: int) -> None:
                state[:] = [done, n_all]
                show()

            yield count


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, like "1 speaker" or "2 speakers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_minutes(seconds: float) -> str:
    """Return minutes and seconds, like 2:05."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"
