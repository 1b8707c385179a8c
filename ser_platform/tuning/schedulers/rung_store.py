"""The rungs of a study on disk, `runs/NAME/stopping.json`: the state of the early-stopping rule by trial number.

They are saved after the journal, from which they can be rebuilt: after a kill between the two, the file contains less
than the journal, never more. Opening the study again saves all rungs.
"""

import json
import time
from pathlib import Path

from ser_platform.files import read_json, replacing
from ser_platform.tuning.schedulers.rules import Rungs

MAX_SAVING_SHARE = 0.02  # share of a search's time for saving: the rungs of 10,000 trials are large


class RungStore:
    """Saves the rungs of a study as they grow."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stopping.json"
        self._next = 0.0

    def read(self) -> Rungs:
        """Return the saved rungs."""
        content = read_json(self.path) if self.path.exists() else {}
        return {int(epoch): {int(trial): score for trial, score in rung.items()} for epoch, rung in content.items()}

    def save(self, rungs: Rungs, *, is_forced: bool = False) -> None:
        """Write the rungs, but not more often than `MAX_SAVING_SHARE` allows unless `is_forced`."""
        began = time.monotonic()
        if began < self._next and not is_forced:
            return
        with replacing(self.path) as temporary:
            # A rung that no trial has reached is left out.
            temporary.write_text(json.dumps({epoch: rung for epoch, rung in rungs.items() if rung}) + "\n")
        ended = time.monotonic()
        self._next = ended + (ended - began) / MAX_SAVING_SHARE
