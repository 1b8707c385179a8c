"""`ser tune`: search, confirm the best trials, test once, register."""

import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import (
    CorporaOption,
    DataOptions,
    JsonOption,
    add_data_options,
    format_examples,
    parse_fixed_settings,
    require_one_corpus,
)
from ser_platform.cli.output import format_test_uar, make_console, make_display, print_table
from ser_platform.cli.spaces import list_spaces, print_spaces, read_spaces, space_path
from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.settings import Overrides, Settings
    from ser_platform.workflows.distillation_control import ControlResult
    from ser_platform.workflows.tune import TuneResult
    from ser_platform.workflows.tune_request import TuneRequest

DEFAULT_SPACES = ("teacher", "student")
ENCODER_SPACES = ("teacher_pretrained", "student")  # the default where a pretrained encoder is available
# The demo takes five minutes. A real corpus, and a space given by the user, have the budget of the space.
DEMO_TRIALS, DEMO_CONFIRM = 12, (2, 2)
DEMO_SETTINGS: "Overrides" = {"train.epochs": 12}
EXAMPLES = format_examples("ser tune", "ser tune student --corpus ravdess --trials 50 --minutes 60")


@add_data_options
def tune(
    spaces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPACE",
            help="Search spaces by name (see --list) or file; default: teacher, then student. The default teacher has "
            "a pretrained encoder where one is available (in SER_PRETRAINED, or from the Hugging Face hub).",
        ),
    ] = None,
    corpus: CorporaOption = [],  # noqa: B006 - Typer takes [] for an optional list
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials of each study; default: the space's budget.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Start no trial after this many minutes.")] = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="TRIALSxSEEDS", help="Number of best trials to train again, and of new seeds for each, like 4x3."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Fix a setting of the search; repeatable.")
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="STUDY",
            help="Start from an earlier study of this folder: from its scores if it had the same split, else from its "
            "best configurations; repeatable.",
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option(
            "--allow-leak",
            help="Accept a study of --from that was trained or selected on dev or test clips; results are marked.",
        ),
    ] = False,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Registered teacher of the students, like ser-teacher/2; default: the candidate or champion. A "
            "distilled student (ser-student/1) can be the teacher of a smaller one.",
        ),
    ] = "",
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Also tune the student without a teacher, with the same space and budget, and report the gain of "
            "distillation with its interval; default: only without SPACE.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the search spaces and the question of each.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Print what SPACE searches, or every mistake in its file; start nothing."),
    ] = False,
    as_json: JsonOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the last tuning of this folder.")] = False,
    *,
    data: DataOptions,
) -> None:
    """Tune a teacher and distil it into a student, on the synthetic corpus `demo` (five minutes) without --corpus.\f

    Each study searches, trains the best trials again with new seeds, tests the winner once and registers it. With
    distill.alpha the loss is alpha T^2 KL(teacher || student) + (1 - alpha) CE: alpha weighs the teacher term, 0 is
    plain training.
    """
    if list_:
        list_spaces(as_json=as_json)
        return
    if as_json and not check:
        raise UserError("--json needs --list or --check; for the trials of a study: ser studies show NAME --json")
    spaces = spaces or []
    if len(set(spaces)) != len(spaces):
        raise UserError(f"a search space is given twice: {' '.join(spaces)}")
    if resume:
        others = (
            spaces,
            corpus,
            trials,
            minutes,
            confirm,
            set_,
            from_,
            allow_leak,
            teacher,
            control is not None,
            check,
        )
        if any(others) or data != DataOptions():
            raise UserError("--resume continues the last tuning with its original options; leave the other options out")
        from ser_platform.workflows.tune_request import TuneRequest

        run_plan(TuneRequest.load_last())
        return
    given_corpus = require_one_corpus(corpus)
    fixed = parse_fixed_settings(set_, data)
    best = _parse_confirm(confirm)
    read = read_spaces(spaces)  # wrong input is refused before torch, Ray and MLflow are imported
    if check:
        if not spaces:
            raise UserError("--check needs a SPACE, a name (see --list) or a file")
        print_spaces([space.with_overrides(fixed, trials, minutes, best) for space in read], as_json=as_json)
        return
    from ser_platform.corpora.splits.protocols import parse_named_corpora
    from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest

    corpus_name = given_corpus or ("" if parse_named_corpora(data.protocol or "") else "demo")
    names, encoder = (spaces, {}) if spaces else _choose_spaces(fixed)
    is_demo = corpus_name == "demo" and not spaces
    plan = TuneRequest(
        planned=[PlannedStudy(str(space_path(name))) for name in names],
        data=data.data_request(corpus_name),
        trials=trials or (DEMO_TRIALS if is_demo else None),
        minutes=minutes,
        confirm=best or (DEMO_CONFIRM if is_demo else None),
        overrides={**(DEMO_SETTINGS if is_demo else {}), **encoder, **fixed},
        warm_start=list(from_ or ()),
        allow_leak=allow_leak,
        teacher=teacher,
    )
    if control or (control is None and not spaces and fixed.get("distill.alpha") != 0):
        plan = plan.with_control(is_required=bool(control))
    run_plan(plan)


def run_plan(plan: "TuneRequest") -> None:
    """Run a plan and print its results; Ctrl-C stops it, a second Ctrl-C ends the process at once."""
    from ser_platform.workflows.tune import tune as run

    try:
        with _stop_on_interrupt():
            tuned = run(plan, make_display())
    except KeyboardInterrupt:
        make_console().print("stopped; finished trials are kept. Continue with: ser tune --resume")
        raise typer.Exit(1) from None
    _print_result(tuned)


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at the first Ctrl-C; the next one ends the process at once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _warn(line: str) -> None:
    make_console(stderr=True).print(line, soft_wrap=True)


def _choose_spaces(fixed: "Overrides") -> "tuple[Sequence[str], Overrides]":
    """Return the spaces to tune where the user gives none, and the encoder of the teacher, if any.

    Fixed settings of the architecture or of its features exclude the default encoder.
    """
    from ser_platform.encoders import find_default_encoder, resolve_pinned_name

    if "model.backbone" in fixed:
        return ENCODER_SPACES, {}
    found = None if {"model.name", "features.sets"} & fixed.keys() else find_default_encoder(_warn)
    return (DEFAULT_SPACES, {}) if found is None else (ENCODER_SPACES, {"model.backbone": resolve_pinned_name(found)})


def _parse_confirm(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    trials, x, seeds = text.partition("x")
    if not (x and trials.isdecimal() and seeds.isdecimal() and int(trials) and int(seeds)):
        raise UserError(f"--confirm takes TRIALSxSEEDS, like 4x3; got {text!r}")
    return int(trials), int(seeds)


def _print_result(tuned: "TuneResult") -> None:
    out = make_console()
    rows = []
    for outcome in tuned.study_results:
        settings = outcome.winner.settings[outcome.winner.median_run]
        rows.append(
            [
                outcome.role,
                _format_model(outcome.role, settings),
                f"{outcome.n_parameters:,}",
                f"{outcome.winner.record.best_dev_uar:.3f}",
                f"{outcome.winner.mean_dev_uar:.3f}",
                format_test_uar(outcome.test_score.metrics, str(outcome.n_test_evaluations)),
            ]
        )
    rows.append(["reference", "linear SVM, pooled features", "-", "-", "-", format_test_uar(tuned.baseline.metrics)])
    columns = ["role", "model", "parameters", "dev UAR, its trial", "dev UAR, new seeds", "test UAR, 95 % interval"]
    print_table(f"Leaderboard: {tuned.corpus.name}, protocol {tuned.corpus.split.protocol_stamp}", columns, rows)
    for control in tuned.controls:
        _print_control(control)
    for outcome in tuned.study_results:
        counts = outcome.state_counts
        out.print(
            f"{outcome.study_name}: {counts['complete']} trials complete, {counts['pruned']} stopped early, "
            f"{counts['failed']} failed;"
            f" {outcome.wall_seconds:.0f} s, {_format_efficiency(outcome.efficiency)}"
        )
    for outcome in tuned.study_results:
        same = "" if outcome.is_new_version else "the winner is the same trial as before: "
        out.print(same + outcome.model.registration_message)
    out.print(f"{tuned.seconds:.0f} s in all. Next:")
    for command, why in (
        (f"ser studies report {(tuned.controls or tuned.study_results)[-1].study_name}", "the results of the study"),
        ("ser ui", "compare the runs in the MLflow UI"),
        ("ser models promote --all", "make the candidates the champions"),
        ("ser predict FILE.wav", "use the champion"),
    ):
        out.print(f"  {command:<26}  {why}")


def _print_control(control: "ControlResult") -> None:
    from ser_platform.evaluation.control_table import CONTROL_COLUMNS, tabulate_control

    rows = tabulate_control(control.as_json()["rows"])
    print_table(f"Control of {control.study_name}: {control.protocol}", CONTROL_COLUMNS, rows)
    make_console().print(f"distillation: {control.verdict}")


def _format_efficiency(value: float) -> str:
    return "every trial was trained before" if math.isnan(value) else f"platform efficiency {value:.2f}"


def _format_model(role: str, settings: "Settings") -> str:
    """Return the model of a row of the leaderboard: its name and the settings of distillation."""
    alpha, text = settings.distill.alpha, settings.model.name
    if settings.model.name == "pretrained":
        text += f", {settings.model.backbone.partition('@')[0]}"
    elif alpha:
        is_softened = settings.distill.loss not in ("mse", "hard")
        text += f", alpha {alpha:g}" + (f" T {settings.distill.temperature:.2g}" if is_softened else "")
    if settings.features.normalise == "speaker":
        text += ", per-speaker normalisation"
    return text if role == "teacher" or alpha else f"{text}, alpha 0: no teacher"
