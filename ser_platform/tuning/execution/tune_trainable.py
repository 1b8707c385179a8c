"""One trial as an actor of Tune: trains on where no decision can fall, tells several epochs at once."""

import time
from collections.abc import Iterator
from typing import Any

from ray import tune

from ser_platform.settings import resolve
from ser_platform.training.loop import Diverged
from ser_platform.tuning.execution.fit_job import TrialJob, train_trial_epochs
from ser_platform.tuning.execution.ray_compat import DONE

WARMUP_CONFIG = {"number": None}  # the config of a trial that only starts a process, and has nothing to do
WARMUP_POLL_S = 0.05  # between its looks at whether it is to end
REPORT_INTERVAL_S = 2.0  # of people who watch: a trial tells its epochs at least so often, between epochs


class TuneTrial(tune.Trainable):
    """Trains the configuration `settings` of its config, up to the next epoch of `decides` at a step.

    A step ends after such an epoch, after the last one, and where epochs have waited for `REPORT_INTERVAL_S`: Tune's
    answer is a round trip to the driver, which the trial waits for. A step's result is `{"epochs": [...]}`. A loss that
    is no longer a number ends the trial with `failure` and leaves the process to the next; other errors end the
    process.
    """

    def setup(self, config: dict[str, Any], job: TrialJob) -> None:  # type: ignore[override]
        self._job = job
        self._epochs: Iterator[dict[str, float]] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._epochs = None
        return True

    def step(self) -> dict[str, Any]:
        if self.config["number"] is None:
            time.sleep(WARMUP_POLL_S)
            return {}
        if self._epochs is None:
            self._epochs = train_trial_epochs(resolve(self.config["settings"]), self._job)
        reported: list[dict[str, float]] = []
        began = time.monotonic()
        try:
            for epoch in self._epochs:
                reported.append(epoch)
                if epoch["epoch"] in self.config["decides"] or time.monotonic() - began > REPORT_INTERVAL_S:
                    return {"epochs": reported}
        except Diverged as error:
            return {"epochs": reported, "failure": f"{type(error).__name__}: {error}", DONE: True}
        return {"epochs": reported, DONE: True}
