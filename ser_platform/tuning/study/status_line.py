"""The status line of a running study, and the list of its failed trials."""

import time
from collections.abc import Callable

from ser_platform.progress import format_minutes
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.trial_outcome import Outcome

MAX_FAILURES_SHOWN = 5
MIN_TRIALS, MIN_SHARE = 3, 0.2


def make_status_line(recorder: StudyRecorder, began: float) -> Callable[[], str]:
    """Return a function that returns the status: trials done, running and stopped early, best dev UAR, time left.

    The time left is estimated once `MIN_TRIALS` and `MIN_SHARE` of all trials have ended since the start.

    `began`: `time.monotonic()` at the start.
    """

    n_before = _count_ended(recorder)  # in a resumed study

    def line() -> str:
        counts, elapsed = recorder.state_counts, time.monotonic() - began
        done = _count_ended(recorder)
        budget = recorder.space.budget
        parts = [
            f"{recorder.space.name}: {done}/{budget.trials} trials",
            f"{counts[Outcome.RUNNING]} running",
            f"{counts[Outcome.PRUNED]} stopped early",
        ]
        if counts[Outcome.FAILED]:
            parts.append(f"{counts[Outcome.FAILED]} failed")
        best = recorder.best_record
        if best is not None:
            parts.append(f"best dev UAR {best.best_dev_uar:.3f} ({best.settings.model.name}, trial {best.number})")
        parts.append(format_minutes(elapsed))
        if done < budget.trials and elapsed >= 60 * budget.minutes:
            parts.append("time is up, no new trials start")
        elif done < budget.trials and done - n_before >= max(MIN_TRIALS, MIN_SHARE * budget.trials):
            left = min(elapsed / (done - n_before) * (budget.trials - done), 60 * budget.minutes - elapsed)
            parts.append(f"about {format_minutes(left)} left")
        return "  ".join(parts)

    return line


def _count_ended(recorder: StudyRecorder) -> int:
    counts = recorder.state_counts
    return counts[Outcome.COMPLETE] + counts[Outcome.PRUNED] + counts[Outcome.FAILED]


def format_failures(recorder: StudyRecorder) -> list[str]:
    """Return a line with the reason for each failed trial; for the first few and a count if there are many."""
    failed = [record for record in recorder.records.values() if record.state == Outcome.FAILED]
    lines = [f"trial {record.number} failed: {record.failure_reason}" for record in failed[:MAX_FAILURES_SHOWN]]
    more = len(failed) - MAX_FAILURES_SHOWN
    return lines if more <= 0 else [*lines, f"{more} more trials failed; see the tag reason of their runs"]
