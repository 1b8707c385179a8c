"""`ser tune`: search, choose, register."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ser_platform.cli.options import (
    CorporaOption,
    DataOptions,
    JsonOption,
    add_data_options,
    parse_fixed_settings,
    require_one_corpus,
)
from ser_platform.cli.output import console, error_console, format_test_uar, make_table
from ser_platform.cli.spaces import list_spaces, space_path
from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.settings import Overrides, Settings
    from ser_platform.workflows.distillation_control import ControlResult
    from ser_platform.workflows.tune import TuneResult
    from ser_platform.workflows.tune_request import TuneRequest

DEFAULT_SPACES = ("teacher", "student")
ENCODER_SPACES = ("teacher_pretrained", "student")  # the default where a pretrained encoder is at hand
# The demo shows the way in five minutes; a real corpus, and a space that is named, get what the space says.
DEMO_TRIALS, DEMO_CONFIRM = 12, (2, 2)
DEMO_SETTINGS: "Overrides" = {"train.epochs": 12}


@add_data_options
def tune(
    spaces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SPACE]...",
            help="Files in search_spaces/, by name or path; default: teacher, then student; the teacher on a "
            "pretrained encoder where one is at hand (SER_PRETRAINED, or the Hugging Face hub).",
        ),
    ] = None,
    corpus: CorporaOption = [],  # noqa: B006 - Typer's way to say that none is needed
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of each study, in place of the space's budget.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Start no trial after so many minutes.")] = None,
    confirm: Annotated[
        str | None, typer.Option(metavar="TRIALSxSEEDS", help="Best trials trained again, and with how many new seeds.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Fix a setting: it is searched no more.")
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="STUDY",
            help="Start from what an earlier study of this folder found: its scores where it had the same split, else "
            "its best configurations. Repeatable.",
        ),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option(
            "--allow-leak",
            help="Go on though a study of --from has heard dev or test; all that comes of it is stamped.",
        ),
    ] = False,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The registered model that students learn from, like ser-teacher/2, in place of the candidate; a "
            "distilled student (ser-student/1) is an assistant between its own teacher and a smaller student.",
        ),
    ] = "",
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Tune the student also without a teacher, with the same space and budget, and report what distilling "
            "gained, with its interval. Without SPACE this is done unless --no-control is given.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the search spaces and what each answers.")] = False,
    as_json: JsonOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last tuning of this folder.")] = False,
    *,
    data: DataOptions,
) -> None:
    """Tune a teacher and distil it into a student: search, train the best again, test once, register.

    Without --corpus the embedded, synthetic corpus `demo` is taken: it shows the way in five minutes.

    With distill.alpha the loss is alpha T^2 KL(teacher || student) + (1 - alpha) CE: alpha weighs the teacher term,
    0 is plain training. Runs appear in `ser ui` while they go on; `ser models promote` makes a candidate the champion.
    """
    if list_:
        list_spaces(as_json=as_json)
        return
    if as_json:
        raise UserError("--json is of --list; ser studies show NAME --json tells of a study")
    from ser_platform.corpora.splits.protocols import parse_named_corpora
    from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest

    if len(set(spaces or ())) != len(spaces or ()):
        raise UserError(f"a search space is given twice: {' '.join(spaces or ())}")
    speech = require_one_corpus(corpus) or ("" if parse_named_corpora(data.protocol or "") else "demo")
    if resume and (
        spaces
        or corpus
        or trials
        or minutes
        or confirm
        or set_
        or from_
        or allow_leak
        or teacher
        or control is not None
        or data != DataOptions()
    ):
        raise UserError("--resume goes on with the last tuning as it was asked for; leave the other options out")
    if resume:
        plan = TuneRequest.load_last()
    else:
        fixed = parse_fixed_settings(set_, data)
        names, encoder = (spaces, {}) if spaces else _default_spaces(fixed)
        shorter = _limit_demo(spaces or (), speech)
        plan = TuneRequest(
            planned=[PlannedStudy(str(space_path(name))) for name in names],
            data=data.data_request(speech),
            trials=trials or shorter.trials,
            minutes=minutes,
            confirm=_confirm(confirm) or shorter.confirm,
            overrides={**shorter.overrides, **encoder, **fixed},
            warm_start=list(from_ or ()),
            allow_leak=allow_leak,
            teacher=teacher,
        )
        if control or (control is None and not spaces and not _is_undistilled(fixed)):
            plan = plan.with_control(is_required=bool(control))
    run_plan(plan)


def run_plan(plan: "TuneRequest") -> None:
    """Run a plan and tell what it came to; Ctrl-C stops it, a second Ctrl-C at once."""
    from ser_platform.progress import Display
    from ser_platform.workflows.tune import tune as run

    out = console()
    try:
        with interruptible():
            tuned = run(plan, Display(out))
    except KeyboardInterrupt:
        out.print("stopped; what was done is kept. Go on with: ser tune --resume", highlight=False)
        raise typer.Exit(1) from None
    _report(tuned)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C of the block stop the work, and the next one end the process at once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_undistilled(fixed: "Overrides") -> bool:
    return fixed.get("distill.alpha") == 0


def _warn(line: str) -> None:
    error_console().print(line, highlight=False, soft_wrap=True)


def _default_spaces(fixed: "Overrides") -> "tuple[Sequence[str], Overrides]":
    """Return the spaces to tune where none is named, and the encoder of the teacher, if any.

    Who fixes an architecture or what it is trained on tunes that.
    """
    from ser_platform.encoders import find_default_encoder, resolve_pinned_name

    if "model.backbone" in fixed:
        return ENCODER_SPACES, {}
    found = None if {"model.name", "features.sets"} & fixed.keys() else find_default_encoder(_warn)
    return (DEFAULT_SPACES, {}) if found is None else (ENCODER_SPACES, {"model.backbone": resolve_pinned_name(found)})


class _DemoLimits(NamedTuple):
    """What a tuning is cut down to where its user has not said otherwise."""

    trials: int | None
    confirm: tuple[int, int] | None
    overrides: "Overrides"


def _limit_demo(spaces: Sequence[str], speech: str) -> _DemoLimits:
    """Return what makes the demo short; a space that is named is tuned as it says."""
    if speech == "demo" and not spaces:
        return _DemoLimits(DEMO_TRIALS, DEMO_CONFIRM, DEMO_SETTINGS)
    return _DemoLimits(None, None, {})


def _confirm(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    trials, x, seeds = text.partition("x")
    if not (x and trials.isdecimal() and seeds.isdecimal() and int(trials) and int(seeds)):
        raise UserError(f"--confirm takes TRIALSxSEEDS, like 4x3; got {text!r}")
    return int(trials), int(seeds)


def _report(tuned: "TuneResult") -> None:
    out = console()
    rows = []
    for outcome in tuned.study_results:
        settings = outcome.winner.settings[outcome.winner.median_run]
        rows.append(
            [
                outcome.role,
                settings.model.name + _format_distillation(settings) + _note_undistilled(outcome.role, settings),
                f"{outcome.n_parameters:,}",
                f"{outcome.winner.record.best_dev_uar:.3f}",
                f"{outcome.winner.mean_dev_uar:.3f}",
                format_test_uar(outcome.test_score.metrics, str(outcome.n_test_evaluations)),
            ]
        )
    rows.append(["reference", "linear SVM, pooled features", "-", "-", "-", format_test_uar(tuned.baseline.metrics)])
    columns = ["role", "model", "parameters", "dev UAR, its trial", "dev UAR, new seeds", "test UAR, 95 % interval"]
    out.print(
        make_table(f"Leaderboard: {tuned.corpus.name}, protocol {tuned.corpus.split.protocol_stamp}", columns, rows)
    )
    for control in tuned.controls:
        print_control(control)
    for outcome in tuned.study_results:
        counts = outcome.state_counts
        out.print(
            f"{outcome.study_name}: {counts['complete']} trials complete, {counts['pruned']} stopped early, "
            f"{counts['failed']} failed;"
            f" {outcome.wall_seconds:.0f} s, {_efficiency(outcome.efficiency)}",
            highlight=False,
        )
    for outcome in tuned.study_results:
        same = "" if outcome.is_new_version else "the same trial won as before, which "
        out.print(same + outcome.model.registration_message, highlight=False)
    out.print(f"{tuned.seconds:.0f} s in all. Next:", highlight=False)
    for command, why in (
        (f"ser studies report {(tuned.controls or tuned.study_results)[-1].study_name}", "what the study found"),
        ("ser ui", "compare the runs in the MLflow UI"),
        ("ser models promote --all", "make the candidates the champions"),
        ("ser predict FILE.wav", "use the champion"),
    ):
        out.print(f"  {command:<26}  {why}", highlight=False)


def print_control(control: "ControlResult") -> None:
    """Print a teacher and two students beside each other, and what distilling gained."""
    from ser_platform.evaluation.control_table import CONTROL_COLUMNS, tabulate_control

    out, rows = console(), tabulate_control(control.as_json()["rows"])
    out.print(make_table(f"Control of {control.study_name}: {control.protocol}", CONTROL_COLUMNS, rows))
    out.print(f"distillation: {control.verdict}", highlight=False)


def _efficiency(value: float) -> str:
    return f"platform efficiency {value:.2f}" if value == value else "every trial was trained before"


def _note_undistilled(role: str, settings: "Settings") -> str:
    return ", alpha 0: no teacher" if role == "student" and not settings.distill.alpha else ""


def _format_distillation(settings: "Settings") -> str:
    """Return what a row of the leaderboard has to say of a model beside its name."""
    alpha = settings.distill.alpha
    softened = "" if settings.distill.loss in ("mse", "hard") else f" T {settings.distill.temperature:.2g}"
    suffix = f", alpha {alpha:g}{softened}" if alpha else ""
    if settings.model.name == "pretrained":
        suffix = f", {settings.model.backbone.partition('@')[0]}"
    return suffix + (", per-speaker normalisation" if settings.features.normalise == "speaker" else "")
