"""Events that a store did not take, kept beside the study in the order they happened: a JSON object a line.

The first line says whose they are. They stay until all of them are sent; sending one twice changes nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_platform.errors import WorkFailed

NAME = "spool.jsonl"
Event = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The study that events are of: where its runs are, under which tags."""

    study: str
    experiment: str
    tags: dict[str, str]


class Spool:
    """The events of one study that are still to be sent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    @property
    def is_empty(self) -> bool:
        return not self.path.exists()

    def append(self, owner: Owner, events: Iterable[Event]) -> None:
        """Add events behind those that wait.

        Raises:
            WorkFailed: they cannot be written.
        """
        lines = [json.dumps(event) for event in events]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.is_empty:
                lines.insert(0, json.dumps(vars(owner)))
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
        except OSError as error:
            raise WorkFailed(
                f"{self.path} cannot be written: {error.strerror}; MLflow does not answer either"
            ) from error

    def read(self) -> tuple[Owner, list[Event]]:
        """Return whose events wait, and the events; a last line that a kill cut short is none.

        Raises:
            WorkFailed: the file is not what `append` writes.
        """
        lines = self.path.read_text(encoding="utf-8").split("\n")
        whole = lines[:-1]  # what follows the last line break was cut short, or is nothing
        try:
            first, *others = [json.loads(line) for line in whole]
            return Owner(**first), others
        except (ValueError, TypeError) as error:
            raise WorkFailed(f"{self.path} is damaged: {error}") from error

    def clear(self) -> None:
        """Forget all: they are sent."""
        self.path.unlink(missing_ok=True)
