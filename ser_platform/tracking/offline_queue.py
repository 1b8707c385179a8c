"""Events that could not be sent to the store, in a file in the folder of their study: one JSON object per line.

The first line is the owner, the others are the events in order of time. The file is removed once all events are sent.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_platform.errors import WorkFailed

QUEUE_FILE = "spool.jsonl"
OWNER_KEYS = {"study", "experiment", "tags"}
Event = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventOwner:
    """The study of the events: its name, the id of its experiment, and the tags of its runs."""

    study: str
    experiment: str
    tags: dict[str, str]


class OfflineQueue:
    """The events of one study that have not been sent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / QUEUE_FILE

    @property
    def is_empty(self) -> bool:
        return not self.path.exists() or self.path.stat().st_size == 0

    def append(self, owner: EventOwner, events: Iterable[Event]) -> None:
        """Append events. Raises WorkFailed where the file cannot be written."""
        lines = [json.dumps(event) for event in events]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.is_empty:
                lines.insert(0, json.dumps(vars(owner)))
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read() != b"\n":  # a kill or a full disk cut the last line short
                        file.write(b"\n")
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
        except OSError as error:
            raise WorkFailed(f"{self.path} cannot be written: {error.strerror}; and MLflow does not answer") from error

    def read(self) -> tuple[EventOwner | None, list[Event]]:
        """Return the owner, None where it cannot be read, and the events.

        A line that cannot be read is left out; a study that is resumed writes what its runs lack.
        """
        first, *others = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        events = [event for event in map(_parse_event, others) if {"kind", "time"} <= event.keys()]
        if len(events) < sum(map(bool, others)):
            log.warning("%s: %d lines cannot be read", self.path, sum(map(bool, others)) - len(events))
        owner = _parse_event(first)
        return (EventOwner(**owner) if owner.keys() == OWNER_KEYS else None), events

    def clear(self) -> None:
        """Remove all events."""
        self.path.unlink(missing_ok=True)


def _parse_event(line: str) -> Event:
    """Return the JSON object in a line; empty where there is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
