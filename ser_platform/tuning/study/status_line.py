"""The line that tells how a study stands."""

import time
from collections.abc import Callable

from ser_platform.progress import clock
from ser_platform.tuning.study.recorder import COMPLETE, FAILED, PRUNED, RUNNING, StudyBook

FAILURES_TOLD = 5


def study_line(book: StudyBook, began: float) -> Callable[[], str]:
    """Return a function that tells how a study stands: done, running, stopped, best so far, time left."""

    def line() -> str:
        counts, elapsed = book.counts, time.monotonic() - began
        done = counts[COMPLETE] + counts[PRUNED] + counts[FAILED]
        parts = [
            f"{book.space.name}: {done}/{book.space.budget.trials} trials",
            f"{counts[RUNNING]} running",
            f"{counts[PRUNED]} stopped early",
        ]
        if counts[FAILED]:
            parts.append(f"{counts[FAILED]} failed")
        best = book.best
        if best is not None:
            parts.append(f"best dev UAR {best.score:.3f} ({best.settings['model.name']}, trial {best.number})")
        parts.append(clock(elapsed))
        if 0 < done < book.space.budget.trials:
            left = min(elapsed / done * (book.space.budget.trials - done), 60 * book.space.budget.minutes - elapsed)
            parts.append(f"about {clock(left)} left" if left > 0 else "time is up, no more trials start")
        return "  ".join(parts)

    return line


def told_failures(book: StudyBook) -> list[str]:
    """Return a line for each trial that failed, and why; of many, for the first and their number."""
    failed = [record for record in book.records.values() if record.state == FAILED]
    lines = [f"trial {record.number} failed: {record.reason}" for record in failed[:FAILURES_TOLD]]
    more = len(failed) - FAILURES_TOLD
    return lines if more <= 0 else [*lines, f"{more} more trials failed; their runs hold the tag reason"]
