"""One trial of a study in memory, and the format in which its results are stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ser_platform.settings import Overrides, Settings
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.search_space.trial_metrics import AT_END, TRIAL_METRICS, rename_former
from ser_platform.tuning.study.trial_outcome import Outcome

RECORDED_METRICS = (
    *EpochResult.__dataclass_fields__,
    *(name for name in TRIAL_METRICS if TRIAL_METRICS[name].known_at == AT_END),
)


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        shared_settings: settings of the study's first trial, stored once for thousands of trials.
        own_settings: settings in which the trial differs from these.
        costs: metrics computed from the configuration alone, such as `parameters`.
        scores_by_epoch: the scores that early stopping and the sampler receive: the objective, else the dev UAR.
        epoch_results: the reported metrics of each epoch.
        cleared_epochs: epochs after which the trial was not stopped before it was interrupted.
    """

    number: int
    params: Overrides
    shared_settings: Settings
    own_settings: Overrides
    costs: Mapping[str, float]
    state: Outcome = Outcome.RUNNING
    failure_reason: str = ""
    scores_by_epoch: dict[int, float] = field(default_factory=dict)
    epoch_results: list[dict[str, float]] = field(default_factory=list)
    cleared_epochs: frozenset[int] = frozenset()

    @property
    def settings(self) -> Settings:
        """All settings of the trial."""
        return self.shared_settings.with_overrides(self.own_settings)

    @property
    def n_parameters(self) -> int:
        return int(self.costs["parameters"])

    @property
    def best_dev_uar(self) -> float:
        """The best dev UAR so far, NaN before the first epoch."""
        return self.epoch_results[-1]["best_dev_uar"] if self.epoch_results else math.nan

    @property
    def epoch_seconds(self) -> list[float]:
        return [result["seconds"] for result in self.epoch_results]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics at the trial's end; losses and dev metrics are those of the epoch with the best dev UAR."""
        figures = {**self.costs, "parameters": self.n_parameters, "epochs": len(self.epoch_results)}
        if not self.epoch_results:
            return figures
        last = self.epoch_results[-1]
        best = next((result for result in self.epoch_results if result["epoch"] == last["best_epoch"]), last)
        figures |= {name: best[name] for name in ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1")}
        measured = {
            name: last[name] for name in TRIAL_METRICS if TRIAL_METRICS[name].known_at == AT_END and name in last
        }
        return figures | {
            "dev_uar": self.best_dev_uar,
            "best_dev_uar": self.best_dev_uar,
            "best_epoch": last["best_epoch"],
            "train_seconds": sum(self.epoch_seconds),
            **measured,
        }

    def get_metric(self, metric: str) -> float:
        """Return a metric of the trial, NaN if it was not reported."""
        return float(self.metrics.get(metric, math.nan))


def read_costs(attributes: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the costs of a stored trial; older versions stored only its `parameters`."""
    costs: Mapping[str, float] = attributes.get("costs", {"parameters": attributes["parameters"]})
    return costs


def to_columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """Return the results of all epochs by metric, the stored format."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def to_rows(columns: Mapping[str, Sequence[float | None]]) -> list[dict[str, float]]:
    """Return the results of each epoch from the output of `to_columns`."""
    names, rows = rename_former(columns), zip(*columns.values(), strict=True)
    return [{n: value for n, value in zip(names, row, strict=True) if value is not None} for row in rows]
