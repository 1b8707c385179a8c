"""`ser studies extend`: more trials for a study."""

from typing import Annotated

import typer

from ser_platform.cli.options import format_examples
from ser_platform.cli.tune import run_plan

EXAMPLES = format_examples(
    "ser studies extend teacher-ravdess-0101-120000-1a2b --trials 20",
    "ser studies extend teacher-ravdess-0101-120000-1a2b --trials 100 --minutes 30",
)


def extend(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study's name; see: ser studies list")],
    trials: Annotated[int, typer.Option(min=1, help="Number of additional trials.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Start no trial after this many minutes.")] = None,
) -> None:
    """Add trials to a study of this folder, with its space, early stopping and sampler.\f

    The best trials are then trained again with new seeds. Where the winner is the configuration that won before, no
    version is registered; else a new one is. After an interruption the study continues with: ser tune --resume
    """
    from ser_platform.workflows.extend import extend as extend_study

    run_plan(extend_study(name, trials, minutes))
