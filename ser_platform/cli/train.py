"""`ser train`: one configuration, without a search."""

from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import Corpora, DataOptions, assignments, one_corpus, takes_data
from ser_platform.cli.output import console, table, uar_text
from ser_platform.errors import UnknownChoice

if TYPE_CHECKING:
    from ser_platform.tuning.train import Trained

ROLES = ("teacher", "student")


@takes_data
def train(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="teacher or student.")],
    corpus: Corpora = [],  # noqa: B006 - Typer's way to say that none is needed
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a setting.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    *,
    data: DataOptions,
) -> None:
    """Train one configuration, test it once and register it as the candidate.

    With a protocol of several folds (loso, speaker_kfold:K, fixed:FILE.csv) one model a fold is trained, their test
    predictions are scored together, and nothing is registered; --fold N trains and registers one.
    A student learns from the registered teacher of this corpus, labels and split with --set distill.alpha=0.5 (the
    weight of the teacher's term); 0, the default, is plain training.

    Examples: ser train student --corpus ravdess+emodb --labels 7; ser train student --protocol
    cross_corpus:train=ravdess,test=emodb --labels 6; ser train teacher --corpus emodb --protocol loso
    """
    if role not in ROLES:
        raise UnknownChoice("role", role, ROLES)
    from ser_platform.progress import Display
    from ser_platform.tuning.train import train as run

    trained = run(role, data.data(one_corpus(corpus)), assignments(set_, data), device, Display(console()))
    _report(trained)


def _report(trained: "Trained") -> None:
    out = console()
    splits, intervals = trained.dataset.splits, trained.score.intervals
    pooled = len(splits) > 1
    protocol = trained.protocol
    recalls = {name: value for name, value in intervals.items() if name.startswith("recall_")}
    rows = [
        [name.removeprefix("recall_"), f"{value.value:.3f}", f"[{value.low:.3f}, {value.high:.3f}]"]
        for name, value in recalls.items()
    ]
    title = f"{trained.name}: {trained.dataset.name}, protocol {protocol}"
    out.print(table(title, ["emotion", "test recall", "95 % interval"], rows))
    what = f"{trained.settings['model.name']}, {trained.parameters:,} parameters, protocol {protocol}"
    tested = uar_text(trained.score.metrics, str(trained.looks))
    out.print(
        f"{what}: dev UAR {trained.dev_uar:.3f}, {'pooled ' if pooled else ''}test UAR {tested}; "
        f"{trained.seconds:.0f} s",
        highlight=False,
    )
    if len(set(trained.score.predictions)) == 1:
        out.print("note: every test clip was given the same emotion", highlight=False)
    if pooled:
        out.print(f"predictions and figures: run {trained.name} in ser ui, folder test", highlight=False)
    if trained.model is not None:
        out.print(f"registered {trained.model.name} version {trained.model.version} as candidate", highlight=False)
