"""A trial as an actor of Tune, which reports several epochs at once where no stopping decision can fall."""

import time
from collections.abc import Iterator
from typing import Any

from ray import tune

from ser_platform.settings import resolve
from ser_platform.training.loop import Diverged
from ser_platform.tuning.execution.fit_job import TrialJob, train_trial_epochs
from ser_platform.tuning.execution.ray_compat import DONE

WARMUP_CONFIG = {"number": None}  # of a trial that only starts a process
WARMUP_POLL_S = 0.05
REPORT_INTERVAL_S = 2.0  # an epoch that ends later than this after the last report is reported at once, for the display


class TuneTrial(tune.Trainable):
    """Trains the configuration `settings` of its config; a step runs up to the next epoch of `decides`.

    A step also ends after the last epoch and after `REPORT_INTERVAL_S`. Fewer steps are faster: after each the trial
    waits for the driver's answer. A step's result is `{"epochs": [...]}`. A loss that is not finite ends the trial with
    `failure`, and the process runs the next trial; other errors end the process.
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
