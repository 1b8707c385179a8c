"""`ser models`: registered versions, and which of them is the champion."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import MODEL_HELP, VERSION_HELP, JsonOption, format_examples
from ser_platform.cli.output import format_test_uar, make_console, print_json, print_table
from ser_platform.errors import PromotionRefused, UserError
from ser_platform.workflows.chosen_model import load_chosen_model

if TYPE_CHECKING:
    from ser_platform.tracking.mlflow_store import Client

app = typer.Typer(
    no_args_is_help=True, help="Registered models: list, show, compare, promote, roll back, export, delete."
)
VersionArgument = Annotated[str, typer.Argument(metavar="MODEL", help=f"{VERSION_HELP}.")]
ReasonOption = Annotated[str | None, typer.Option(help="Reason, recorded on the version.")]


@app.command("list", epilog=format_examples("ser models list", "ser models list --json"))
def list_(as_json: JsonOption = False) -> None:
    """List every registered version, newest first."""
    from ser_platform.evaluation.task import describe_training_corpora
    from ser_platform.tracking import registry
    from ser_platform.tracking.mlflow_store import open_client

    models = registry.list_models(open_client())
    if as_json:
        print_json([registry.version_as_json(model) for model in models])
        return
    rows = [
        [
            model.title,
            ", ".join(model.aliases),
            describe_training_corpora(model.tags.get("corpus", "")),
            model.tags.get("protocol", ""),
            f"{model.dev_uar:.3f}",
            format_test_uar(model.metrics, model.tags.get("test_looks", "")),
            model.tags.get("teacher", "-"),
        ]
        for model in models
    ]
    columns = ["version", "aliases", "trained on", "protocol", "dev UAR", "test UAR, 95 % interval", "teacher"]
    print_table("Registered models", columns, rows)


@app.command(epilog=format_examples("ser models show ser-student", "ser models show ser-teacher/2 --json"))
def show(model: VersionArgument, as_json: JsonOption = False) -> None:
    """Show a registered version: its study, metrics and promotion decisions."""
    from ser_platform.evaluation.task import describe_training_corpora
    from ser_platform.tracking import registry
    from ser_platform.tracking.mlflow_store import open_client

    found = registry.find_model(open_client(), model)
    if as_json:
        print_json(registry.version_as_json(found) | {"run_id": found.run_id, "tags": dict(found.tags)})
        return
    plain = registry.version_as_json(found)
    rows = [
        ["aliases", ", ".join(found.aliases) or "-"],
        ["trained on", describe_training_corpora(plain["corpus"])],
        ["protocol", plain["protocol"]],
        ["study, trial", f"{plain['study']}, {found.tags.get('trial', '-')}"],
        ["MLflow run", found.run_id],
        ["teacher", plain["teacher"] or "-"],
        ["emotions", found.tags.get("labels", "")],
        ["dev UAR", f"{found.dev_uar:.3f}"],
        ["test UAR, 95 % interval", format_test_uar(found.metrics, found.tags.get("test_looks", ""))],
    ]
    rows += [
        [f"test recall, {name.removeprefix('test_recall_')}", f"{value:.3f}"]
        for name, value in found.metrics.items()
        if name.startswith("test_recall_")
    ]
    measures = (
        ("parameters", "parameters", "{:,.0f}"),
        ("size", "size_bytes", "{:,.0f} bytes"),
        ("latency", "latency_ms", "{:.1f} ms for 3 s on one CPU thread"),
    )
    rows += [[name, text.format(plain[key])] for name, key, text in measures if plain[key] is not None]
    rows += [["digest", plain["digest"]], *([key, decision] for key, decision in plain["decisions"].items())]
    print_table(found.title, ["property", "value"], rows)


@app.command(
    epilog=format_examples(
        "ser models compare ser-student/1 ser-student/2", "ser models compare ser-student ser-student/2"
    )
)
def compare(first: VersionArgument, second: VersionArgument, as_json: JsonOption = False) -> None:
    """Compare two versions on the same test clips: the UAR gain of the second, recalls, size and latency.\f

    A version that was tested on other clips is first evaluated on those of the second; the ledger records this test
    evaluation.
    """
    from ser_platform.metrics import confusion_matrix, recalls
    from ser_platform.tracking import gate_inputs, registry
    from ser_platform.tracking.mlflow_store import open_client

    client = open_client()
    found = gate_inputs.compare_versions(client, *(registry.find_model(client, text) for text in (first, second)))
    titles, gain = [model.title for model in found.models], found.gain
    shown = [
        dict(
            zip(
                clips.labels,
                recalls(confusion_matrix(clips.targets, clips.predictions, len(clips.labels))),
                strict=True,
            )
        )
        for clips in found.test_predictions
    ]
    if as_json:
        models = [
            registry.version_as_json(model)
            | {"latency_p95_ms": latency and latency.wall_p95_ms, "latency_cpu_ms": latency and latency.cpu_ms}
            | {"recalls": recall}
            for model, latency, recall in zip(found.models, found.latencies, shown, strict=True)
        ]
        gain_json = gain and {"value": gain.value, "low": gain.low, "high": gain.high, "over": gain.over}
        print_json({"models": models, "gain": gain_json, "incomparable": found.why_no_gain})
        return
    rows = [["test UAR", *(format_test_uar(model.metrics) for model in found.models)]]
    emotions = list(dict.fromkeys([*shown[0], *shown[1]]))
    rows += [
        [f"recall, {name}", *(f"{recall[name]:.3f}" if name in recall else "-" for recall in shown)]
        for name in emotions
    ]
    for what, tag, unit in (("parameters", "parameters", ""), ("size", "size_bytes", " bytes")):
        rows.append(
            [what, *(f"{int(model.tags[tag]):,}{unit}" if tag in model.tags else "-" for model in found.models)]
        )
    walls = ("-" if latency is None else f"{latency.wall_p95_ms:.1f} ms" for latency in found.latencies)
    cpu_times = ("-" if latency is None else f"{latency.cpu_ms:.1f} ms" for latency in found.latencies)
    rows += [["latency, 95th percentile", *walls], ["CPU time, reference core", *cpu_times]]
    print_table("Two versions", ["", *titles], rows)
    out = make_console()
    if gain is None:
        out.print(f"the gain is unknown: {found.why_no_gain}")
        return
    caveat = f" ({gain.caveat})" if gain.caveat else ""
    certainty = "" if gain.low > 0 or gain.high < 0 else ": no certain difference, the interval contains 0"
    out.print(
        f"{titles[1]} against {titles[0]}: {gain.value:+.3f} UAR [{gain.low:+.3f}, {gain.high:+.3f}]{caveat}{certainty}"
    )


@app.command(epilog=format_examples("ser models delete ser-student/3", "ser models delete ser-student/3 --yes"))
def delete(
    model: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="Version, like ser-student/3.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False,
) -> None:
    """Delete a version that is neither champion, previous nor candidate; its run and the files of the run stay."""
    from ser_platform.tracking import registry
    from ser_platform.tracking.mlflow_store import open_client

    if "/" not in model.removeprefix("models:/"):
        raise UserError(f"{model!r} names no version; give NAME/VERSION, like ser-student/3")
    client = open_client()
    found = registry.find_model(client, model)
    if not yes and not typer.confirm(f"delete {found.title}?"):
        raise UserError(f"{found.title} was not deleted")
    registry.delete_version(client, found)
    make_console().print(f"{found.title} is deleted")


@app.command(
    epilog=format_examples("ser models promote --all", "ser models promote ser-student/3 --force --reason 'lab demo'")
)
def promote(
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="NAME (its candidate) or NAME/VERSION.")] = None,
    version: Annotated[str | None, typer.Option(help="Promote this version instead of the candidate.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Promote the candidates of all models.")] = False,
    margin: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Largest accepted loss of UAR; default: the policy's.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of the limits; default: mlflow/promotion_policy.yaml.")
    ] = None,
    replace_champion: Annotated[
        bool, typer.Option("--replace", help="Replace a champion of another task, without a comparison.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote although gates failed; needs --reason.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Make the candidate the champion, if it passes the promotion gates; the decision is recorded on the version.\f

    Gates: its digests are correct and it predicts; its split does not leak; recall, difference between sexes,
    calibration, latency and size are within the limits of the policy. Of a champion of the same task (corpora, emotions
    and kind of protocol) it has the protocol, and the paired interval of its gain on the same test clips excludes a
    loss of more than the margin. A champion of another task is replaced with --replace only, without a comparison;
    one that was trained on the synthetic corpus also without --replace.
    """
    if (name is None) == (not every):
        raise UserError("give the model to promote, like ser-teacher or ser-student, or --all")
    if every and version is not None:
        raise UserError("--version needs a model, not --all, like: ser models promote ser-student --version 3")
    if name is not None and "/" in name:
        name, _, written = name.partition("/")
        if version is not None and version != written:
            raise UserError(f"{name}/{written} and --version {version} are two versions; give one of them")
        version = written
    if force != (reason is not None):
        raise UserError("--force needs --reason TEXT, and --reason needs --force; give both or neither")
    from ser_platform.tracking import registry
    from ser_platform.tracking.mlflow_store import open_client

    client = open_client()
    names = [name] if name is not None else registry.list_candidate_names(client) or ["ser-teacher"]
    refused = [
        str(error)
        for each in names
        if (error := _promote(client, each, version, margin, policy, reason, replace_champion))
    ]
    if refused:
        raise PromotionRefused("; ".join(refused))


def _promote(
    client: "Client",
    name: str,
    version: str | None,
    margin: float | None,
    policy: Path | None,
    reason: str | None,
    replace_champion: bool,
) -> PromotionRefused | None:
    """Promote one model; return the refusal instead of raising it, so that the other model is promoted too."""
    from ser_platform.tracking import gate_inputs, promotion, registry

    limits, _ = gate_inputs.read_policy(policy, name)
    if margin is not None:
        limits = replace(limits, uar_margin=margin)
    candidate = registry.find_model(client, f"{name}/{version}" if version else f"{name}@{registry.CANDIDATE}")
    champion = registry.find_alias(client, name, registry.CHAMPION)
    out = make_console()
    if champion is not None and champion.version == candidate.version:
        out.print(f"{candidate.title} is the champion already")
        return None
    gates = gate_inputs.evaluate_candidate(client, candidate, champion, limits, replace_champion)
    for gate in gates:
        out.print(f"{gate.verdict:<10}  {gate.name}: {gate.detail}")
    try:
        promotion.promote(client, candidate, champion, gates, reason)
    except PromotionRefused as refusal:
        return refusal
    is_forced = reason and any(gate.passed is False for gate in gates)
    out.print(f"{candidate.title} is the champion now{', by --force; the reason is recorded' if is_forced else ''}")
    return None


@app.command(
    epilog=format_examples("ser models export ser-student model", "ser models export ser-student/2 model --int8")
)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to create, or an empty one.")],
    int8: Annotated[bool, typer.Option("--int8", help="Store weights with 8 bits, under a third of the size.")] = False,
) -> None:
    """Write a model to a folder, for `ser predict --model FOLDER` and `ser evaluate FOLDER`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; give a new folder")
    chosen = load_chosen_model(model)
    chosen.bundle.write(folder, chosen.bundle.card, int8=int8)
    out = make_console()
    out.print(f"{chosen.title} is in {folder}")
    for file in sorted(folder.iterdir()):
        out.print(f"{file.stat().st_size / 1000:10,.1f} KB  {file.name}")


@app.command(
    epilog=format_examples("ser models rollback ser-student", "ser models rollback ser-teacher --reason 'too slow'")
)
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ser-teacher or ser-student.")],
    reason: ReasonOption = None,
) -> None:
    """Make the previous champion the champion again."""
    from ser_platform.tracking import promotion
    from ser_platform.tracking.mlflow_store import open_client

    champion = promotion.rollback(open_client(), name, reason)
    make_console().print(f"{champion.title} is the champion again")
