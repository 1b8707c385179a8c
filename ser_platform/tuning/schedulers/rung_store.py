"""The rungs of a study on disk, `runs/NAME/stopping.json`: what early stopping knows, by trial number.

The journal is what they follow from; they are saved after it, so that a kill between the two leaves the file a part of
what the journal says, never the other way round. A study that is opened again saves them whole.
"""

import json
import time
from pathlib import Path

from ser_platform.files import read_json, replacing
from ser_platform.tuning.schedulers.rules import Rungs

MAX_SAVING_SHARE = 0.02  # of a search's time that saving may take: a study of 10,000 trials has large rungs


class RungStore:
    """Saves the rungs of a study as they grow."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stopping.json"
        self._next = 0.0

    def read(self) -> Rungs:
        """Return the rungs as they were saved last."""
        content = read_json(self.path) if self.path.exists() else {}
        return {int(epoch): {int(trial): score for trial, score in rung.items()} for epoch, rung in content.items()}

    def save(self, rungs: Rungs, *, is_forced: bool = False) -> None:
        """Write the rungs, unless that was done a moment ago; `is_forced` writes them in any case."""
        began = time.monotonic()
        if began < self._next and not is_forced:
            return
        with replacing(self.path) as temporary:
            # JSON's keys are strings; a rung that no trial has reached is left out.
            temporary.write_text(json.dumps({epoch: rung for epoch, rung in rungs.items() if rung}) + "\n")
        ended = time.monotonic()
        self._next = ended + (ended - began) / MAX_SAVING_SHARE
