"""`ser studies extend`: more trials for a study."""

from typing import Annotated

import typer

from ser_platform.cli.tune import run_plan


def extend(
    name: Annotated[str, typer.Argument(help="The study's name; see: ser studies list.")],
    trials: Annotated[int, typer.Option(min=1, help="How many trials more.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Start no trial after so many minutes.")] = None,
) -> None:
    """Add trials to a study of this folder: its space, early stopping and sampler go on where they were.

    The best are then trained again with new seeds. Where the winner is the configuration that won before, nothing
    is registered; else a new version is. After a kill or Ctrl-C go on with: ser tune --resume
    """
    from ser_platform.workflows.extend import extend as more_of

    run_plan(more_of(name, trials, minutes))
