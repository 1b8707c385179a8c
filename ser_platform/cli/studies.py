"""`ser studies`: what was searched, and what came of it."""

from typing import Annotated, Any

import typer

from ser_platform.cli.output import console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Studies of this folder: list them, show one.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _described(folder: Any) -> dict[str, Any]:
    summary = folder.summary
    keys = ("name", "state", "role", "corpus", "created", "metrics", "registered")
    return {key: summary.get(key) for key in keys}


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the studies, oldest first."""
    from ser_platform.tuning.journal import studies

    entries = [_described(folder) for folder in studies()]
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
    console().print(table("Studies", ["name", "state", "dev UAR", "test UAR", "registered"], rows))


@app.command()
def show(name: Annotated[str, typer.Argument(help="The study's name.")], as_json: Json = False) -> None:
    """Show a study's trials."""
    from ser_platform.tuning.journal import describe_trials, find_study

    folder = find_study(name)
    trials = describe_trials(folder.trials(), folder.summary.get("run_ids", {}))
    if as_json:
        print_json({**_described(folder), "trials": trials})
        return
    rows = [
        [
            str(trial["number"]),
            trial["state"],
            f"{trial['metrics'].get('best_dev_uar', float('nan')):.3f}",
            str(int(trial["metrics"].get("epochs", 0))),
            str(int(trial["metrics"].get("parameters", 0))),
            " ".join(f"{key}={_short(value)}" for key, value in trial["params"].items()),
        ]
        for trial in trials
    ]
    summary = folder.summary
    columns = ["trial", "state", "dev UAR", "epochs", "parameters", "settings"]
    console().print(table(f"{name}: {summary['state']}", columns, rows))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "+".join(value) if isinstance(value, list) else str(value)
