"""What a study found: its trials read from its folder, put into words, tables, figures and one page.

It reads the journal and summary only: running, interrupted and failed studies have a report too. Test figures take no
part: they are no reason to choose.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from ser_platform.errors import UserError
from ser_platform.evaluation.control_figure import CONTROL_COLUMNS, control_figure, tabulate_control
from ser_platform.evaluation.intervals import Interval
from ser_platform.tuning.report.axis_effects import (
    estimate_value_effects,
    format_value,
    summarise_axis,
    summarise_best_trials,
)
from ser_platform.tuning.report.figures import axes_to_show, draw_study_figures, importance_rows
from ser_platform.tuning.report.html_page import PageTable, StudyPage
from ser_platform.tuning.report.importance import Importance, estimate_importance
from ser_platform.tuning.report.interactive_plots import draw_plots
from ser_platform.tuning.report.subset_effects import estimate_member_effects, summarise_members
from ser_platform.tuning.report.trial_table import (
    CATEGORICAL,
    SUBSET,
    SearchedAxis,
    Trial,
    TrialTable,
    make_trial_table,
)
from ser_platform.tuning.search_space.space import (
    DEV_UAR,
    Budget,
    Objective,
    SamplerPlan,
    SchedulerPlan,
    Space,
)
from ser_platform.tuning.search_space.yaml_file import read_question
from ser_platform.tuning.study.pareto import find_pareto_set, is_feasible
from ser_platform.tuning.study.request import SPACE_FILE, has_request, read_request
from ser_platform.tuning.study.study_folder import STUDY_FINISHED, StudyFolder
from ser_platform.tuning.study.trial_outcome import Outcome, read_outcome

N_BEST_SHOWN = 5  # configurations shown first
COUNT_NAMES = {Outcome.DUPLICATE: "seen before", Outcome.OVER_LIMIT: "over a limit"}  # others: the outcome itself
METHOD_NOTE = (
    "dev UAR is the best so far on dev speakers. Importance: forests are fitted to bootstrap samples of the trials; an "
    "axis matters by how much worse they predict the trials left out once it is shuffled; shuffled copies of the axes "
    "say what chance reaches. A trial that was stopped early counts with its last score plus the median gain that "
    "complete trials made from that epoch on. Costs compare mean dev UAR of the trials at a value with the best "
    "value's; the other settings are as the sampler drew them. The best of many trials is partly luck: the figure on "
    "new seeds is the one to believe."
)


@dataclass(frozen=True)
class StudyReport:
    """A study as it stands."""

    folder: StudyFolder
    summary: Mapping[str, Any]
    optuna_trials: tuple[FrozenTrial, ...]
    table: TrialTable
    space: Space | None
    question: str

    @classmethod
    def read(cls, folder: StudyFolder) -> "StudyReport":
        """Read a study's folder. One that an older version began keeps no copy of its space."""
        stored = tuple(folder.read_trials())
        space, question = None, ""
        if has_request(folder):
            space, question = read_request(folder).read_space(), read_question(folder.path / SPACE_FILE)
        return cls(folder, folder.summary, stored, make_trial_table(stored), space, question)

    @cached_property
    def axis_importance(self) -> Importance:
        """Which axes matter."""
        return estimate_importance(self.table)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives."""
        return self.space.objectives if self.space else (DEV_UAR,)

    @cached_property
    def objective_values(self) -> NDArray[np.float64]:
        """The objectives of the scored trials, NaN where one was not measured, `(n_scored, n_objectives)`."""
        rows = [[_get_metric(trial, goal.metric) for goal in self.objectives] for trial in self.table.scored]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.objectives))

    @property
    def pareto_trials(self) -> list[Trial]:
        """The complete trials within the constraints that no other one beats, best dev UAR first."""
        limits = self.space.constraints if self.space else ()
        complete = [
            trial
            for trial in self.table.scored
            if trial.state == Outcome.COMPLETE and is_feasible(limits, partial(_get_metric, trial))
        ]
        front = find_pareto_set(complete, self.objectives, _get_metric)
        return sorted(front, key=lambda trial: (-trial.best_dev_uar, trial.number))

    @property
    def state_counts(self) -> dict[str, int]:
        """How many trials there are by what became of them."""
        outcomes = [read_outcome(trial) for trial in self.optuna_trials]
        return dict(Counter(COUNT_NAMES.get(outcome, outcome.value) for outcome in outcomes))

    def summarise(self) -> list[str]:
        """Say in a few lines what was found, and what cannot be said."""
        lines = [self._describe_state(), self._describe_best(), *self._describe_gain()]
        budget = self.space.budget.trials if self.space else 0
        if self.summary["state"] == STUDY_FINISHED and 0 < len(self.table.trials) < budget:
            lines.append(f"{len(self.table.trials)} of {budget} trials were run: time or space was used up before")
        if not self.axis_importance.is_known:
            chosen = [axis for axis in self.table.axes if axis.kind == CATEGORICAL and self.table.scored]
            return [
                *lines,
                f"not enough trials to tell which settings matter: {self.axis_importance.n_trials} of "
                f"{self.axis_importance.min_trials}",
                *(summarise_best_trials(self.table, axis) for axis in chosen[:N_BEST_SHOWN]),
            ]
        if not self.axis_importance.axes:
            return [*lines, "which settings matter cannot be told: every trial scored the same, or drew the same"]
        moving = [each for each in self.axis_importance.axes if each.has_effect]
        ranked = ", ".join(f"{e.axis.name} {e.share:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in moving)
        lines.append(f"what matters, as part of what is explained: {ranked or 'no setting more than chance'}")
        idle = [each.axis.name for each in self.axis_importance.axes if not each.has_effect]
        lines += [f"no effect seen in {self.axis_importance.n_trials} trials: {', '.join(idle)}"] if idle else []
        asked = [each for each in self.axis_importance.axes if each.axis.kind == SUBSET and not each.has_effect]
        return lines + [self._describe_axis(each.axis) for each in [*moving[:N_BEST_SHOWN], *asked]]

    def _describe_axis(self, axis: SearchedAxis) -> str:
        if axis.kind == SUBSET:
            return summarise_members(axis, estimate_member_effects(self.table, axis))
        return summarise_axis(axis, estimate_value_effects(self.table, axis))

    def _describe_state(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in self.state_counts.items()) or "no trial"
        metrics = self.summary.get("metrics", {})
        seconds = f"; {metrics['wall_seconds']:.0f} s" if "wall_seconds" in metrics else ""
        share = (
            f", platform efficiency {metrics['platform_efficiency']:.2f}" if "platform_efficiency" in metrics else ""
        )
        return f"{self.summary['state']}: {counts}{seconds}{share}"

    def _describe_best(self) -> str:
        if not self.table.best_first:
            return "no trial has finished an epoch: there is nothing to choose from"
        metrics = self.summary.get("metrics", {})
        if self.summary["state"] != STUDY_FINISHED or "dev_uar_new_seeds" not in metrics:
            best = self.table.best_first[0]
            return (
                f"best so far: trial {best.number}, dev UAR {best.best_dev_uar:.3f}, not yet confirmed with new seeds"
            )
        again, search = metrics["dev_uar_new_seeds"], metrics["dev_uar"]
        luck = f", of which {search - again:.3f} was luck" if search > again else ""
        among = " of the Pareto set, by dev UAR" if len(self.objectives) > 1 else ""
        found = f"dev UAR {again:.3f} with new seeds; the search said {search:.3f}{luck}"
        return f"winner{among}: {self._describe_winner()}{found}"

    def _describe_gain(self) -> list[str]:
        """Say what distilling gained, where the study has a control."""
        control = self.summary.get("control")
        if not control:
            return []
        rows = ", ".join(f"{row['name']} {100 * row['uar']['value']:.1f}" for row in control["rows"])
        return [f"distillation: {control['gain']['verdict']} (UAR, protocol {control['protocol']}: {rows})"]

    def _describe_winner(self) -> str:
        first = next(iter(self.summary.get("confirmed", ())), None)
        return f"trial {first['trial']}, " if first else ""

    def list_facts(self) -> list[tuple[str, str]]:
        """Return what the study was, by name."""
        known = [("corpus", self.summary.get("corpus")), ("split", self.summary.get("split"))]
        known += [("protocol", self.summary.get("protocol")), ("role", self.summary.get("role"))]
        known += [("objective", ", ".join(f"{goal.metric} {goal.direction}" for goal in self.objectives))]
        if self.space:
            bounds = (("at least", "at_least"), ("at most", "at_most"))
            limits = [
                f"{limit.metric} {words} {getattr(limit, bound):g}"
                for limit in self.space.constraints
                for words, bound in bounds
                if getattr(limit, bound) is not None
            ]
            known += [("constraints", ", ".join(limits))]
            known += [(part, _format_plan(getattr(self.space, part))) for part in ("sampler", "scheduler", "budget")]
        return [(name, str(value)) for name, value in known if value]

    def as_json(self) -> dict[str, Any]:
        """Return what was found for scripts."""
        chosen = [_trial_as_json(trial) for trial in self.table.best_first[:N_BEST_SHOWN]]
        return {
            "name": self.folder.name,
            "state": self.summary["state"],
            "question": self.question,
            "counts": self.state_counts,
            "best": chosen,
            "enough_trials": self.axis_importance.is_known,
            "importance": importance_rows(self.axis_importance),
            "words": self.summarise(),
            "control": self.summary.get("control"),
        }

    def write(self, out: Path) -> Path:
        """Write the page and its PNGs into a folder that takes the place of `out`; return the page's path.

        Raises:
            UserError: `out` is there and is no earlier report.
        """
        out = out.resolve()
        if out.exists() and not _is_report(out):
            raise UserError(f"{out} is there already, and is no report of a study; name another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".report") as temporary:
            made = Path(temporary) / "report"
            made.mkdir(mode=0o755)
            columns = [
                (g.metric, g.direction == "maximize", self.objective_values[:, n])
                for n, g in enumerate(self.objectives)
            ]
            drawn = draw_study_figures(self.table, self.axis_importance, columns, made)
            if self.summary.get("control"):
                rows = [(row["name"], Interval(**row["uar"])) for row in self.summary["control"]["rows"]]
                control_figure(rows, self.summary["control"]["gain"]["verdict"], made / "control.png")
                drawn = {"control.png": "What distilling gained", **drawn}
            page = StudyPage(
                self.folder.name,
                self.question,
                self.summarise(),
                self._make_tables(),
                drawn,
                draw_plots(self.table),
                METHOD_NOTE,
            )
            (made / "index.html").write_text(page.html(made), encoding="utf-8")
            if out.exists():
                out.rename(Path(temporary) / "before")
            made.rename(out)
        return out / "index.html"

    def _make_tables(self) -> list[PageTable]:
        trials = [
            (str(t.number), t.state, f"{t.best_dev_uar:.3f}", format_settings(t.params)) for t in self.table.best_first
        ]
        importances = [
            (e.axis.name, f"{e.share:.2f}", f"{e.low:.2f} to {e.high:.2f}", "yes" if e.has_effect else "none seen")
            for e in self.axis_importance.axes
        ]
        shown = axes_to_show(self.table, self.axis_importance)
        values = [
            (axis.name, each.label, str(len(each.scores)), f"{each.mean:.3f}", f"{each.low:.3f} to {each.high:.3f}")
            for axis in shown
            if axis.kind != SUBSET
            for each in estimate_value_effects(self.table, axis)
        ]
        members = [
            (axis.name, m.name, str(m.n_with), str(m.n_without), f"{m.gain:+.3f}", f"{m.low:+.3f} to {m.high:+.3f}")
            for axis in shown
            if axis.kind == SUBSET
            for m in estimate_member_effects(self.table, axis)
        ]
        confirmed = [
            (
                str(each["trial"]),
                f"{each['search']:.3f}",
                f"{np.mean(each['again']):.3f}",
                ", ".join(f"{score:.3f}" for score in each["again"]),
            )
            for each in self.summary.get("confirmed", ())
        ]
        control = self.summary.get("control") or {"protocol": "", "rows": ()}
        arms = tabulate_control(control["rows"])
        trial_columns = ("trial", "state", "dev UAR", "settings")
        return [
            PageTable(f"What distilling gained: {control['protocol']}", CONTROL_COLUMNS, arms),
            PageTable("Trained again with new seeds", ("trial", "in the search", "mean", "each seed"), confirmed),
            PageTable("Best configurations of the search", trial_columns, trials[:N_BEST_SHOWN]),
            PageTable("What matters", ("setting", "importance", "95 % interval", "effect"), importances),
            PageTable("Value by value", ("setting", "value", "trials", "mean dev UAR", "95 % interval"), values),
            PageTable("Member by member", ("setting", "member", "with", "without", "gain", "95 % interval"), members),
            PageTable("The study", ("what", "is"), self.list_facts()),
            PageTable("Every trial", trial_columns, trials),
        ]


def _is_report(path: Path) -> bool:
    """Tell whether a folder is an earlier report, which a new one may replace: it has nothing of anybody else's."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return "index.html" in names and all(name == "index.html" or name.endswith(".png") for name in names)


def _get_metric(trial: Trial, metric: str) -> float:
    return trial.best_dev_uar if metric == "dev_uar" else float(trial.metrics.get(metric, np.nan))


def _trial_as_json(trial: Trial) -> dict[str, Any]:
    return {"number": trial.number, "state": trial.state, "dev_uar": trial.best_dev_uar, "params": dict(trial.params)}


def _format_plan(plan: SamplerPlan | SchedulerPlan | Budget) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(plan).items() if value is not None)


def format_settings(params: Mapping[str, Any]) -> str:
    """Return a configuration in one line."""
    return " ".join(f"{name}={format_value(value)}" for name, value in params.items())


def write_report(folder: StudyFolder, out: Path | None = None) -> tuple[StudyReport, Path]:
    """Write a study's report into its folder, or elsewhere; return what it says and where the page is."""
    report = StudyReport.read(folder)
    return report, report.write(folder.path / "report" if out is None else out)
