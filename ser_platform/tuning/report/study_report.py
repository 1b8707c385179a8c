"""The report of a study: its answer in sentences, tables, figures and one HTML page.

It is made from the study's folder alone, so that running, interrupted and failed studies have a report too. It contains
no test figures: they must not influence the choice of a configuration.
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
from ser_platform.evaluation.control_table import CONTROL_COLUMNS, tabulate_control
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.test_figures import draw_control_figure
from ser_platform.tuning.report.axis_effects import (
    estimate_value_effects,
    format_value,
    summarise_axis,
    summarise_best_trials,
)
from ser_platform.tuning.report.figures import PARETO_TERM, draw_study_figures, select_axes, tabulate_importance
from ser_platform.tuning.report.html_page import PageTable, StudyPage
from ser_platform.tuning.report.importance import Importance, estimate_importance
from ser_platform.tuning.report.interactive_plots import draw_plots
from ser_platform.tuning.report.subset_effects import estimate_member_effects, summarise_members
from ser_platform.tuning.report.timeline import write_timeline
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

N_BEST_SHOWN = 5  # configurations in the first table
COUNT_NAMES = {Outcome.DUPLICATE: "seen before", Outcome.OVER_LIMIT: "over a limit"}  # others: the outcome itself
COUNT_LABELS = {Outcome.PRUNED.value: "pruned (stopped early)"}
DEV_UAR_TERM = (
    "dev UAR: unweighted average recall on the dev speakers, which are not trained on and choose the configuration; "
    "1 is perfect"
)
CONTROL_TERM = "undistilled: the control arm, the same search without a teacher"
INTERVAL_TERM = "[low, high]: 95 % interval"
METHOD_NOTE = (
    "The dev UAR of a trial is its best over the epochs. Importance: random forests are fitted to bootstrap samples of "
    "the trials; the importance of a setting is the growth of their error on the other trials when its values are "
    "shuffled, as a share of the sum over all settings. A setting has an effect if its importance is above that of "
    "every shuffled copy. The score of a pruned trial is its last dev UAR plus the median gain of complete "
    "trials from that epoch to their end. Values and members are compared by the mean dev UAR of their trials, whose "
    "other settings differ as the sampler drew them. The best of many trials is partly luck: the dev UAR "
    "with new seeds is the better estimate."
)


@dataclass(frozen=True)
class StudyReport:
    """The trials and the summary of a study, at the time of reading."""

    folder: StudyFolder
    summary: Mapping[str, Any]
    optuna_trials: tuple[FrozenTrial, ...]
    table: TrialTable
    space: Space | None
    question: str

    @classmethod
    def read(cls, folder: StudyFolder) -> "StudyReport":
        """Read a study's folder. Without a stored search space (a study of an older version), `space` is None."""
        stored = tuple(folder.read_trials())
        space, question = None, ""
        if has_request(folder):
            space, question = read_request(folder).read_space(), read_question(folder.path / SPACE_FILE)
        return cls(folder, folder.summary, stored, make_trial_table(stored), space, question)

    @cached_property
    def axis_importance(self) -> Importance:
        """The importance of each axis."""
        return estimate_importance(self.table)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the search space, else the dev UAR."""
        return self.space.objectives if self.space else (DEV_UAR,)

    @cached_property
    def objective_values(self) -> NDArray[np.float64]:
        """The objectives of the scored trials, `(n_scored, n_objectives)`; NaN if not measured."""
        rows = [[_get_metric(trial, goal.metric) for goal in self.objectives] for trial in self.table.scored]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.objectives))

    @property
    def pareto_trials(self) -> list[Trial]:
        """The complete trials within the constraints that no other one beats in every objective, best dev UAR first."""
        limits = self.space.constraints if self.space else ()
        complete = [
            trial
            for trial in self.table.scored
            if trial.state == Outcome.COMPLETE and is_feasible(limits, partial(_get_metric, trial))
        ]
        front = find_pareto_set(complete, self.objectives, _get_metric)
        return sorted(front, key=lambda trial: (-trial.best_dev_uar, trial.number))

    @property
    def winner(self) -> int:
        """The number of the confirmed trial, before the confirmation of the best one; -1 where none is scored."""
        confirmed = [int(each["trial"]) for each in self.summary.get("confirmed", ())]
        return (confirmed or [trial.number for trial in self.table.best_first] or [-1])[0]

    @property
    def state_counts(self) -> dict[str, int]:
        """The number of trials by outcome."""
        outcomes = [read_outcome(trial) for trial in self.optuna_trials]
        return dict(Counter(COUNT_NAMES.get(outcome, outcome.value) for outcome in outcomes))

    @property
    def title(self) -> str:
        """What was studied, in one line."""
        role, corpus = self.summary.get("role", "model"), self.summary.get("corpus", "an unknown corpus")
        return f"Search for the best {role} on {corpus} ({self.folder.name})"

    def summarise(self) -> list[str]:
        """Return the answer and its evidence, a sentence each; a term is defined where it first occurs."""
        lines = [self._describe_best(), DEV_UAR_TERM, self._describe_state(), *self._describe_gain()]
        budget = self.space.budget.trials if self.space else 0
        if self.summary["state"] == STUDY_FINISHED and 0 < len(self.table.trials) < budget:
            lines.append(f"{len(self.table.trials)} of {budget} trials were trained: the time or the space ran out")
        importance = self.axis_importance
        if not importance.is_known:
            choices = [axis for axis in self.table.axes if axis.kind == CATEGORICAL and self.table.scored]
            return [
                *lines,
                f"not enough trials to estimate the importance of settings: {importance.n_trials} of "
                f"{importance.min_trials}",
                *(summarise_best_trials(self.table, axis) for axis in choices[:N_BEST_SHOWN]),
            ]
        if not importance.axes:
            return [
                *lines,
                "importance of settings: unknown, because all trials have the same score or settings",
            ]
        with_effect = [each for each in importance.axes if each.has_effect]
        ranked = ", ".join(f"{e.axis.name} {e.share:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in with_effect)
        lines.append(
            f"importance of settings (share of the explained variation of dev UAR; {INTERVAL_TERM}): "
            f"{ranked or 'no setting is above chance'}"
        )
        others = [each for each in importance.axes if not each.has_effect]
        if others:
            lines.append(f"no effect seen in {importance.n_trials} trials: {', '.join(e.axis.name for e in others)}")
        sets = [each for each in others if each.axis.kind == SUBSET]
        return lines + [self._describe_axis(each.axis) for each in [*with_effect[:N_BEST_SHOWN], *sets]]

    def _describe_axis(self, axis: SearchedAxis) -> str:
        if axis.kind == SUBSET:
            return summarise_members(axis, estimate_member_effects(self.table, axis))
        return summarise_axis(axis, estimate_value_effects(self.table, axis))

    def _describe_state(self) -> str:
        counts = [f"{number} {COUNT_LABELS.get(state, state)}" for state, number in self.state_counts.items()]
        line = f"{self.summary['state']}: {', '.join(counts) or 'no trial'}"
        metrics = self.summary.get("metrics", {})
        if "wall_seconds" in metrics:
            line += f"; {metrics['wall_seconds']:.0f} s"
        if "platform_efficiency" in metrics:
            line += f", platform efficiency {metrics['platform_efficiency']:.2f} (share of the time spent on training)"
        return line

    def _describe_best(self) -> str:
        if not self.table.best_first:
            return "no trial has finished an epoch: there is no best configuration yet"
        metrics = self.summary.get("metrics", {})
        if self.summary["state"] != STUDY_FINISHED or "dev_uar_new_seeds" not in metrics:
            best = self.table.best_first[0]
            return (
                f"best so far: trial {best.number}, dev UAR {best.best_dev_uar:.3f}, not yet confirmed with new seeds"
            )
        again, search = metrics["dev_uar_new_seeds"], metrics["dev_uar"]
        luck = f", of which {search - again:.3f} was luck" if search > again else ""
        among = f" of the Pareto set ({PARETO_TERM})" if len(self.objectives) > 1 else ""
        winner = "".join(f"trial {each['trial']}, " for each in self.summary.get("confirmed", ())[:1])
        return (
            f"best configuration{among}: {winner}dev UAR {again:.3f} with new seeds ({search:.3f} in the search{luck})"
        )

    def _describe_gain(self) -> list[str]:
        """Return the gain of distillation as a sentence, nothing for a study without a control."""
        control = self.summary.get("control")
        if not control:
            return []
        rows = ", ".join(f"{row['name']} {100 * row['uar']['value']:.1f}" for row in control["rows"])
        scores = f"UAR in percent, protocol {control['protocol']}: {rows}"
        return [f"distillation: {control['gain']['verdict']} ({scores}; {CONTROL_TERM})"]

    def list_facts(self) -> list[tuple[str, str]]:
        """Return the properties of the study as (name, value)."""
        known = [(name, self.summary.get(name)) for name in ("corpus", "split", "protocol", "role")]
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
            "importance": tabulate_importance(self.axis_importance),
            "words": self.summarise(),
            "control": self.summary.get("control"),
        }

    def write(self, out: Path) -> Path:
        """Write the page and its PNGs into the folder `out`, in place of an earlier report; return the page's path.

        Raises:
            UserError: `out` exists and is not a report.
        """
        out = out.resolve()
        if out.exists() and not _is_report(out):
            raise UserError(f"{out} exists and is not the report of a study; give another folder with --out")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".report") as temporary:
            made = Path(temporary) / "report"
            made.mkdir(mode=0o755)
            columns = [
                (g.metric, g.direction == "maximize", self.objective_values[:, n])
                for n, g in enumerate(self.objectives)
            ]
            drawn = draw_study_figures(self.table, self.axis_importance, columns, self.winner, made)
            if self.summary.get("control"):
                rows = [(row["name"], Interval(**row["uar"])) for row in self.summary["control"]["rows"]]
                draw_control_figure(rows, self.summary["control"]["gain"]["verdict"], made / "control.png")
                drawn = {"control.png": f"Gain from distillation ({CONTROL_TERM})", **drawn}
            drawn |= write_timeline(self.summary, self.optuna_trials, made)
            page = StudyPage(
                self.title,
                self.question,
                self.summarise(),
                self._make_tables(),
                drawn,
                draw_plots(self.table),
                METHOD_NOTE,
            )
            (made / "index.html").write_text(page.render(made), encoding="utf-8")
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
        shown = select_axes(self.table, self.axis_importance)
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
            PageTable(
                "Gain from distillation",
                f"Protocol: {control['protocol']}. UAR in percent, pooled over the folds. {CONTROL_TERM}.",
                CONTROL_COLUMNS,
                arms,
            ),
            PageTable(
                "Best trials, trained again with new seeds",
                "The trial with the best mean wins.",
                ("trial", "dev UAR in the search", "mean of the new seeds", "each new seed"),
                confirmed,
            ),
            PageTable(
                "Best configurations of the search", "pruned: stopped early.", trial_columns, trials[:N_BEST_SHOWN]
            ),
            PageTable(
                "Importance of each setting",
                "Share of the explained variation of dev UAR; see Method.",
                ("setting", "importance", "95 % interval", "effect"),
                importances,
            ),
            PageTable(
                "Mean dev UAR at each value",
                "Values with at least three trials.",
                ("setting", "value", "trials", "mean dev UAR", "95 % interval"),
                values,
            ),
            PageTable(
                "Gain of each member of a set",
                "Mean dev UAR of the trials with the member minus that of the trials without it.",
                ("setting", "member", "trials with it", "trials without it", "gain", "95 % interval"),
                members,
            ),
            PageTable("Study", "Its data, objectives and plan.", ("property", "value"), self.list_facts()),
            PageTable("All trials", "Best dev UAR first.", trial_columns, trials),
        ]


def _is_report(path: Path) -> bool:
    """Whether a folder contains a report and nothing else, so that a new one may replace it."""
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
    """Return a configuration as one line."""
    return " ".join(f"{name}={format_value(value)}" for name, value in params.items())


def write_report(folder: StudyFolder, out: Path | None = None) -> tuple[StudyReport, Path]:
    """Write a study's report into `out`, else into its folder; return the report and the path of its page."""
    report = StudyReport.read(folder)
    return report, report.write(folder.path / "report" if out is None else out)
