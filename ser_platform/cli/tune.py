"""`ser tune`: search, confirm the best trials, test once, register."""

import contextlib
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
    from ser_platform.tracking.registry import RegisteredVersion
    from ser_platform.workflows.distillation_control import ControlResult
    from ser_platform.workflows.tune import TuneResult
    from ser_platform.workflows.tune_request import TuneRequest

DEFAULT_SPACES = ("teacher", "student")
ENCODER_SPACES = ("teacher_pretrained", "student")  # the default where a pretrained encoder is available
# The demo takes minutes. A real corpus, and a space given by the user, have the budget of the space.
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
    register_as: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Register the models as NAME-teacher and NAME-student, with a champion of their own; default: ser.",
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
    """Tune a teacher and distil it into a student, on the synthetic corpus `demo` (minutes) without --corpus.\f

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
        others = (spaces, corpus, trials, minutes, confirm, set_, from_, allow_leak, teacher, register_as, check)
        if any(others) or control is not None or data != DataOptions():
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
    from ser_platform.tracking.registry import make_model_name
    from ser_platform.workflows.tune_request import PlannedStudy, TuneRequest

    make_model_name("student", register_as)  # a name that cannot be registered is refused
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
        register_as=register_as,
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
    """Print the verdict: the leaderboard, the gain of distilling, the candidates, the report, and what to do next."""
    out = make_console()
    for control in tuned.controls:
        _print_control(control, tuned.corpus.name)
    if not tuned.controls:
        _print_leaderboard(tuned)
    for outcome in tuned.study_results:
        model = f"{outcome.model.name} version {outcome.model.version}"
        what = _format_model(outcome.role, outcome.winner.settings[outcome.winner.median_run])
        same = "the winner is the same trial as before"
        out.print(f"registered {model}: {what}" if outcome.is_new_version else f"{same}, {model}: {what}")
    for candidate in tuned.candidates:
        out.print(_explain_candidate(candidate, [outcome.model for outcome in tuned.study_results]))
        tested = format_test_uar(candidate.metrics, candidate.tags.get("test_looks", ""), in_percent=True)
        out.print(f"  its own test UAR: {tested}")
    if tuned.controls:
        svm = format_test_uar(tuned.baseline.metrics, in_percent=True)
        out.print(f"reference, linear SVM on pooled features: test UAR {svm}")
    for study in tuned.controls or tuned.study_results:
        out.print(f"report: runs/{study.study_name}/report/index.html")
    registered = [outcome.model for outcome in tuned.study_results] or tuned.candidates
    name = registered[-1].name if registered else "ser-student"
    chosen = "" if name.startswith("ser-") else f" --model {name}"
    out.print(f"{tuned.seconds:.0f} s in all. Next:")
    for command, why in (
        ("ser ui", "compare the runs in the MLflow UI"),
        ("ser models promote --all", "make the candidates the champions"),
        (f"ser predict FILE.wav{chosen}", "use the champion"),
    ):
        out.print(f"  {command:<26}  {why}")


def _print_control(control: "ControlResult", corpus: str) -> None:
    """Print the comparison of teacher, distilled and undistilled student; the report has the other columns."""
    from ser_platform.evaluation.control_table import CONTROL_COLUMNS, tabulate_control
    from ser_platform.progress import format_count

    shown = [CONTROL_COLUMNS.index(name) for name in CONTROL_COLUMNS if name not in ("agrees with teacher", "weights")]
    rows = tabulate_control(control.as_json()["rows"])
    speakers = format_count(control.rows[0].uar.n_speakers, "speaker")
    print_table(
        f"Leaderboard: {corpus}, {speakers}, UAR in percent ({control.protocol})",
        [CONTROL_COLUMNS[place] for place in shown],
        [[row[place] for place in shown] for row in rows],
    )
    make_console().print(f"distillation: {control.verdict}")


def _print_leaderboard(tuned: "TuneResult") -> None:
    """Print the dev and test figures of studies without a control."""
    rows = [
        [
            outcome.role,
            f"{outcome.model.title}, {outcome.winner.settings[0].model.name}",
            f"{outcome.n_parameters:,}",
            f"{100 * outcome.winner.mean_dev_uar:.1f}",
            format_test_uar(outcome.test_score.metrics, in_percent=True, with_speakers=False),
            str(outcome.n_test_evaluations),
        ]
        for outcome in tuned.study_results
    ]
    svm = format_test_uar(tuned.baseline.metrics, in_percent=True, with_speakers=False)
    rows.append(["reference", "linear SVM, pooled features", "-", "-", svm, "-"])
    print_table(
        f"Leaderboard: {tuned.corpus.name}, UAR in percent; protocol {tuned.corpus.split.protocol_stamp}",
        ["role", "model", "parameters", "dev UAR", "test UAR, 95 % interval", "evaluation"],
        rows,
    )


def _explain_candidate(candidate: "RegisteredVersion", registered: "Sequence[RegisteredVersion]") -> str:
    """Return which version is the candidate of a model, and the dev UAR that decided, in a line."""
    names = {model.title for model in registered}
    others = [model for model in registered if model.name == candidate.name and model.title != candidate.title]
    earlier = "" if candidate.title in names else " of an earlier run"
    line = f"candidate {candidate.name} version {candidate.version}{earlier}, by dev UAR: {100 * candidate.dev_uar:.1f}"
    line += "".join(f", version {other.version} has {100 * other.dev_uar:.1f}" for other in others)
    return line + ("; the newer of equals" if any(other.dev_uar == candidate.dev_uar for other in others) else "")


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
