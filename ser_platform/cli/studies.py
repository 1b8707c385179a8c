"""`ser studies`: studies of this folder and their trials."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.options import JsonOption, format_examples
from ser_platform.cli.output import make_console, print_json, print_table

if TYPE_CHECKING:
    from ser_platform.tuning.report.study_report import StudyReport
    from ser_platform.tuning.study.study_folder import StudyFolder

app = typer.Typer(no_args_is_help=True, help="Studies of this folder: list them, show one, report, extend.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The study's name; see: ser studies list")]
EXAMPLE_NAME = "student-ravdess-0101-120000-1a2b"


def _study_as_json(folder: "StudyFolder") -> dict[str, Any]:
    summary = folder.summary
    keys = ("name", "state", "role", "corpus", "created", "metrics", "registered", "control")
    return {key: summary.get(key) for key in keys}


@app.command("list", epilog=format_examples("ser studies list", "ser studies list --json"))
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
    print_table("Studies", ["name", "state", "dev UAR", "test UAR", "registered"], rows)


@app.command(
    epilog=format_examples(f"ser studies report {EXAMPLE_NAME}", f"ser studies report {EXAMPLE_NAME} --out report")
)
def report(
    name: NameArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the report; default: runs/NAME/report.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the results of a finished, running or interrupted study as a page with figures, and print a summary."""
    from ser_platform.files import expand_path
    from ser_platform.tuning.report.study_report import write_report
    from ser_platform.tuning.study.study_folder import find_study

    study, page = write_report(find_study(name), None if out is None else expand_path(out))
    if as_json:
        print_json({**study.as_json(), "page": str(page)})
        return
    console = make_console()
    for line in [study.question, *study.summarise(), f"report: {page}"]:
        if line:
            console.print(line)


@app.command(epilog=format_examples(f"ser studies show {EXAMPLE_NAME}", f"ser studies show {EXAMPLE_NAME} --best 5"))
def show(
    name: NameArgument,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Only the trials of the Pareto set: no other trial is better in all goals.")
    ] = False,
    best: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the N best trials, best first.")] = None,
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
            _format_params(trial["params"]),
        ]
        for trial in trials
    ]
    summary = folder.summary
    columns = ["trial", "state", "dev UAR", "epochs", "parameters", "settings"]
    print_table(f"{name}: {summary['state']}", columns, rows)
    if control := summary.get("control"):
        make_console().print(f"distillation: {control['gain']['verdict']}; ser studies report {name}")


def _print_pareto(study: "StudyReport") -> None:
    places = {trial.number: place for place, trial in enumerate(study.table.scored)}
    goals = [goal.metric for goal in study.objectives]
    rows = [
        [
            str(trial.number),
            *(f"{float(value):,.6g}" for value in study.objective_values[places[trial.number]]),
            _format_params(trial.params),
        ]
        for trial in study.pareto_trials
    ]
    title = f"{study.folder.name}: the Pareto set of {', '.join(goals)}"
    if len(goals) == 1:
        title += " (of one objective: its best trial)"
    print_table(title, ["trial", *goals, "settings"], rows)


def _format_params(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_format_value(value)}" for key, value in params.items())


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "+".join(value) if isinstance(value, list) else str(value)
