"""`ser studies`: what was searched, and what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.output import console, make_table, print_json

if TYPE_CHECKING:
    from ser_platform.tuning.report.study_report import StudyReport

app = typer.Typer(no_args_is_help=True, help="Studies of this folder: list them, show one, report, extend.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _study_as_json(folder: Any) -> dict[str, Any]:
    summary = folder.summary
    keys = ("name", "state", "role", "corpus", "created", "metrics", "registered", "control")
    return {key: summary.get(key) for key in keys}


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the studies, oldest first."""
    from ser_platform.tuning.study.study_folder import list_studies

    entries = [_study_as_json(folder) for folder in list_studies()]
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            entry["name"],
            entry["state"],
            f"{entry['metrics'].get('dev_uar_new_seeds', float('nan')):.3f}",
            f"{entry['metrics'].get('test_uar', float('nan')):.3f}",
            entry["registered"] or "-",
        ]
        for entry in entries
    ]
    console().print(make_table("Studies", ["name", "state", "dev UAR", "test UAR", "registered"], rows))


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="The study's name.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default: runs/NAME/report.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a study found as a page with figures, and say it in a few lines: finished, running or interrupted."""
    from ser_platform.files import expand_path
    from ser_platform.tuning.report.study_report import write_report
    from ser_platform.tuning.study.study_folder import find_study

    made, page = write_report(find_study(name), None if out is None else expand_path(out))
    if as_json:
        print_json({**made.as_json(), "page": str(page)})
        return
    lines = console()
    for line in [made.question, *made.summarise(), f"report: {page}"]:
        if line:
            lines.print(line, highlight=False)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The study's name.")],
    pareto: Annotated[bool, typer.Option("--pareto", help="Only the trials that no other beats.")] = False,
    best: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the N best, best first.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study's trials; the best is marked *."""
    from ser_platform.tuning.report.study_report import StudyReport
    from ser_platform.tuning.study.study_folder import describe_trials, find_study

    folder = find_study(name)
    study = StudyReport.read(folder)
    trials = describe_trials(folder.read_trials(), folder.summary.get("run_ids", {}))
    ranked = [trial.number for trial in (study.pareto_trials if pareto else study.table.best_first)]
    if pareto or best:
        by_number = {trial["number"]: trial for trial in trials}
        trials = [by_number[number] for number in ranked[:best]]
    if as_json:
        print_json({**_study_as_json(folder), "trials": trials})
        return
    if pareto:
        _print_pareto(study)
        return
    rows = [
        [
            f"{trial['number']}{'*' if ranked[:1] == [trial['number']] else ''}",
            trial["state"],
            f"{trial['metrics'].get('best_dev_uar', float('nan')):.3f}",
            str(int(trial["metrics"].get("epochs", 0))),
            str(int(trial["metrics"].get("parameters", 0))),
            settings_line(trial["params"]),
        ]
        for trial in trials
    ]
    summary = folder.summary
    columns = ["trial", "state", "dev UAR", "epochs", "parameters", "settings"]
    console().print(make_table(f"{name}: {summary['state']}", columns, rows))
    if control := summary.get("control"):
        console().print(f"distillation: {control['gain']['verdict']}; ser studies report {name}", highlight=False)


def _print_pareto(study: "StudyReport") -> None:
    """Print the Pareto set: what each objective came to, and the configuration."""
    places = {trial.number: place for place, trial in enumerate(study.table.scored)}
    goals = [goal.metric for goal in study.objectives]
    rows = [
        [
            str(t.number),
            *(f"{float(v):,.6g}" for v in study.objective_values[places[t.number]]),
            settings_line(t.params),
        ]
        for t in study.pareto_trials
    ]
    title = f"{study.folder.name}: the Pareto set of {', '.join(goals)}"
    if len(goals) == 1:
        title += " (of one objective: its best trial)"
    console().print(make_table(title, ["trial", *goals, "settings"], rows))


def settings_line(params: Mapping[str, Any]) -> str:
    """Return a configuration in one line."""
    return " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "+".join(value) if isinstance(value, list) else str(value)
