"""`ser train`: one configuration, trained without a search."""

from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import (
    CorporaOption,
    DataOptions,
    add_data_options,
    format_examples,
    parse_fixed_settings,
    require_one_corpus,
)
from ser_platform.cli.output import format_test_uar, make_console, make_display, print_table
from ser_platform.errors import UnknownChoice, UserError

if TYPE_CHECKING:
    from ser_platform.workflows.training_run import TrainResult

ROLES = ("teacher", "student")
EXAMPLES = format_examples(
    "ser train teacher --corpus ravdess", "ser train student --corpus emodb --protocol loso --set distill.alpha=0.5"
)


@add_data_options
def train(
    role: Annotated[str | None, typer.Argument(metavar="ROLE", help="teacher or student.")] = None,
    corpus: CorporaOption = [],  # noqa: B006 - Typer takes [] for an optional list
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a setting; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto uses a GPU if there is one.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train on N workers of the Ray cluster at RAY_ADDRESS, or of this machine if it is not set; each has "
            "a GPU or CPU cores. They share each batch, so the result does not depend on N. Default: this process "
            "alone, which is faster for small models: starting workers takes about 20 s.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from the weights, architecture and features of NAME@ALIAS, NAME/VERSION (also with models:/) "
            "or a folder with a model. If the labels differ, the classifier keeps the rows of common labels.",
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option(
            "--allow-leak", help="Accept an --init model that was trained on dev or test clips; results are marked."
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the last interrupted training of this folder; repeat or omit the other options."
        ),
    ] = False,
    *,
    data: DataOptions,
) -> None:
    """Train one configuration, test it once and register it; with several folds, only report their pooled test score.\f

    It is registered as the candidate unless the present candidate is better on dev.
    With a protocol of several folds (loso, speaker_kfold:K, fixed:FILE.csv) one model is trained for each fold, their
    test predictions are scored together, and nothing is registered; --fold N trains and registers one.
    With --set distill.alpha=0.5 (the weight of the teacher term) a student is distilled from the registered teacher of
    this corpus, labels and split; 0, the default, is plain training.
    Every train.checkpoint_every epochs a checkpoint is written under runs/: after a worker has failed, all workers
    continue from it, and --resume does so after a kill or Ctrl-C.
    """
    if role is None and not resume:
        raise UserError("the role is missing; start with: ser train teacher, or ser train student")
    if role not in (*ROLES, None):
        raise UnknownChoice("role", role, ROLES)
    fixed = parse_fixed_settings(set_, data)
    from ser_platform.workflows.train import run_training
    from ser_platform.workflows.train_plan import TrainRequest

    plan = requested = TrainRequest(
        role or "", data.data_request(require_one_corpus(corpus)), fixed, device, workers, init, allow_leak
    )
    if resume:
        plan = TrainRequest.load_last()
        is_given_by_name = {
            "role": role is not None,
            "data": bool(corpus) or data != DataOptions(),
            "overrides": bool(fixed),
            "init": init is not None,
            "allow_leak": allow_leak,
        }
        plan.refuse_other_options(requested, {name for name, is_given in is_given_by_name.items() if not is_given})
        plan.workers = plan.workers if workers is None else workers
        plan.device = plan.device if device == "auto" else device
    try:
        _print_result(run_training(plan, make_display()))
    except KeyboardInterrupt:
        make_console().print("stopped; finished epochs are kept. Continue with: ser train --resume")
        raise typer.Exit(1) from None


def _print_result(trained: "TrainResult") -> None:
    out, is_pooled = make_console(), len(trained.dataset.splits) > 1
    rows = [
        [name.removeprefix("recall_"), f"{value.value:.3f}", f"[{value.low:.3f}, {value.high:.3f}]"]
        for name, value in trained.test_score.intervals.items()
        if name.startswith("recall_")
    ]
    title = f"{trained.name}: {trained.dataset.name}, protocol {trained.protocol}"
    print_table(title, ["emotion", "test recall", "95 % interval"], rows)
    what = f"{trained.settings.model.name}, {trained.n_parameters:,} parameters, protocol {trained.protocol}"
    tested = format_test_uar(trained.test_score.metrics, str(trained.n_test_evaluations))
    out.print(
        f"{what}: dev UAR {trained.dev_uar:.3f}, {'pooled ' if is_pooled else ''}test UAR {tested}; "
        f"{trained.seconds:.0f} s"
    )
    if len(set(trained.test_score.predictions)) == 1:
        out.print("note: the same emotion is predicted for every test clip")
    if is_pooled:
        out.print(f"predictions and figures: run {trained.name} in ser ui, folder test")
    if trained.model is not None:
        out.print(trained.model.registration_message)
