"""`ser train`: one configuration, without a search."""

from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import (
    CorporaOption,
    DataOptions,
    add_data_options,
    parse_fixed_settings,
    require_one_corpus,
)
from ser_platform.cli.output import console, format_test_uar, make_table
from ser_platform.errors import UnknownChoice, UserError

if TYPE_CHECKING:
    from ser_platform.workflows.train import TrainResult

ROLES = ("teacher", "student")


@add_data_options
def train(
    role: Annotated[str | None, typer.Argument(metavar="ROLE", help="teacher or student.")] = None,
    corpus: CorporaOption = [],  # noqa: B006 - Typer's way to say that none is needed
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a setting.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train on N workers of the Ray cluster at RAY_ADDRESS, else of this machine: a GPU each (cuda), or "
            "CPU cores. They share each batch, so the result is that of one. Without it this process trains alone, "
            "which suits small models: starting workers takes about 20 s.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from the weights of NAME@ALIAS, NAME/VERSION (models:/ before it is allowed) or a bundle's "
            "folder, and take over its architecture and features. Of other labels, the rows that both know are kept.",
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="Start from a model that has heard dev or test; all that comes is stamped."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the last training of this folder; other options may be repeated or left out."
        ),
    ] = False,
    *,
    data: DataOptions,
) -> None:
    """Train one configuration, test it once and register it: as the candidate, unless the present one is better on dev.

    With a protocol of several folds (loso, speaker_kfold:K, fixed:FILE.csv) one model a fold is trained, their test
    predictions are scored together, and nothing is registered; --fold N trains and registers one.
    A student learns from the registered teacher of this corpus, labels and split with --set distill.alpha=0.5 (the
    weight of the teacher's term); 0, the default, is plain training.
    Every train.checkpoint_every epochs the training is kept under runs/: where a worker dies, all go on from there, and
    --resume does after a kill or Ctrl-C.

    Examples: ser train student --corpus ravdess+emodb --labels 7; ser train student --protocol
    cross_corpus:train=ravdess,test=emodb --labels 6; ser train teacher --corpus emodb --protocol loso; ser train
    teacher --corpus emodb --workers 2; ser train --resume; ser train teacher --corpus emodb --init
    ser-teacher@champion
    """
    from ser_platform.progress import Display
    from ser_platform.workflows.train import run_training
    from ser_platform.workflows.train_plan import TrainRequest

    if role is None and not resume:
        raise UserError("say what to train: ser train teacher, or ser train student")
    if role not in (*ROLES, None):
        raise UnknownChoice("role", role, ROLES)
    fixed = parse_fixed_settings(set_, data)
    asked = TrainRequest(
        role or "", data.data_request(require_one_corpus(corpus)), fixed, device, workers, init, allow_leak
    )
    plan = asked
    if resume:
        plan = TrainRequest.load_last()
        is_given_by_name = {
            "role": role is not None,
            "data": bool(corpus) or data != DataOptions(),
            "overrides": bool(fixed),
            "init": init is not None,
            "allow_leak": allow_leak,
        }
        plan.refuse_other_options(asked, {name for name, is_given in is_given_by_name.items() if not is_given})
        plan.workers = plan.workers if workers is None else workers
        plan.device = plan.device if device == "auto" else device
    out = console()
    try:
        trained = run_training(plan, Display(out))
    except KeyboardInterrupt:
        out.print("stopped; what was done is kept. Go on with: ser train --resume", highlight=False)
        raise typer.Exit(1) from None
    _report(trained)


def _report(trained: "TrainResult") -> None:
    out = console()
    splits, intervals = trained.dataset.splits, trained.test_score.intervals
    pooled = len(splits) > 1
    protocol = trained.protocol
    recalls = {name: value for name, value in intervals.items() if name.startswith("recall_")}
    rows = [
        [name.removeprefix("recall_"), f"{value.value:.3f}", f"[{value.low:.3f}, {value.high:.3f}]"]
        for name, value in recalls.items()
    ]
    title = f"{trained.name}: {trained.dataset.name}, protocol {protocol}"
    out.print(make_table(title, ["emotion", "test recall", "95 % interval"], rows))
    what = f"{trained.settings.model.name}, {trained.n_parameters:,} parameters, protocol {protocol}"
    tested = format_test_uar(trained.test_score.metrics, str(trained.n_test_evaluations))
    out.print(
        f"{what}: dev UAR {trained.dev_uar:.3f}, {'pooled ' if pooled else ''}test UAR {tested}; "
        f"{trained.seconds:.0f} s",
        highlight=False,
    )
    if len(set(trained.test_score.predictions)) == 1:
        out.print("note: every test clip was given the same emotion", highlight=False)
    if pooled:
        out.print(f"predictions and figures: run {trained.name} in ser ui, folder test", highlight=False)
    if trained.model is not None:
        out.print(trained.model.registration_message, highlight=False)
