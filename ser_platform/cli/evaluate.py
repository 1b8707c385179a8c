"""`ser evaluate`: the metrics of a model on any corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_platform.cli.options import (
    MODEL_HELP,
    CorporaOption,
    DataOptions,
    JsonOption,
    add_data_options,
    format_examples,
    require_one_corpus,
)
from ser_platform.cli.output import format_test_uar, make_console, make_display, print_json, print_table
from ser_platform.errors import UserError
from ser_platform.workflows.chosen_model import load_chosen_model

if TYPE_CHECKING:
    from ser_platform.evaluation.assessment import Assessment
    from ser_platform.inference.bundle import Bundle

EXAMPLES = format_examples(
    "ser evaluate ser-student --corpus ravdess", "ser evaluate ser-student/2 --corpus emodb --part all --out results"
)


@add_data_options
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    corpus: CorporaOption,
    part: Annotated[
        str | None,
        typer.Option(help="test, dev or all; default: all where no speaker of the corpus was in training, else test."),
    ] = None,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Accept clips or speakers from the training data; results are marked.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write figures, predictions.csv and evaluation.json here.")
    ] = None,
    as_json: JsonOption = False,
    *,
    data: DataOptions,
) -> None:
    """Evaluate a model on a corpus whose speakers and clips were not in its training data.\f

    Emotions are mapped by the model's own rules for labels, or by --labels. On the model's own corpus its own split is
    used. Each evaluation of test clips is written to the ledger.
    """
    from ser_platform.evaluation.assessment import assess

    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    chosen = load_chosen_model(model)
    assessment = assess(
        chosen.bundle,
        chosen.title,
        data.data_request(require_one_corpus(corpus)),
        make_display(as_json=as_json),
        part=part,
        labels=data.labels,
        use_own_split=data.protocol is None and data.seed is None and data.fold is None,
        allow_leak=allow_leak,
    )
    content = _assessment_as_json(chosen.title, chosen.bundle, assessment)
    if out is not None:
        _write(out, content, chosen.bundle, assessment)
    if as_json:
        print_json(content)
        return
    _print(chosen.title, chosen.bundle, assessment)
    if out is not None:
        make_console().print(f"written to {out}")


def _assessment_as_json(title: str, bundle: "Bundle", assessment: "Assessment") -> dict[str, Any]:
    score = assessment.score
    return {
        "model": title,
        "corpus": assessment.corpus,
        "part": assessment.part,
        "protocol": assessment.protocol,
        "clips": len(assessment.clips),
        "speakers": list(assessment.clips.speakers),
        "labels": list(bundle.labels),
        "metrics": {
            name: {"value": interval.value, "low": interval.low, "high": interval.high}
            for name, interval in score.intervals.items()
        },
        "interval_over": score.uar.over,
        "caveat": score.uar.caveat,
        "looks": assessment.n_test_evaluations,
        "confusion_matrix": score.matrix.tolist(),
    }


def _print(title: str, bundle: "Bundle", assessment: "Assessment") -> None:
    out, score = make_console(), assessment.score
    rows = []
    for number, label in enumerate(bundle.labels):
        recall = score.intervals.get(f"recall_{label}")
        cell = "-" if recall is None else f"{recall.value:.3f} [{recall.low:.3f}, {recall.high:.3f}]"
        rows.append([label, *map(str, score.matrix[number]), cell])
    what = f"{title} on {assessment.corpus}, {assessment.part}: {len(assessment.clips)} clips"
    columns = ["labelled \\ predicted", *bundle.labels, "recall, 95 % interval"]
    print_table(f"{what}; protocol {assessment.protocol}", columns, rows)
    n_test_evaluations = "" if assessment.n_test_evaluations is None else str(assessment.n_test_evaluations)
    out.print(f"UAR {format_test_uar(score.metrics, n_test_evaluations)}")
    if len(set(score.predictions)) == 1:
        out.print(f"note: the prediction for every clip is {bundle.labels[score.predictions[0]]}")
    for name, metric in (("war", "WAR"), ("macro_f1", "macro-F1")):
        interval = score.intervals[name]
        out.print(f"{metric} {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")


def _write(folder: Path, content: dict[str, Any], bundle: "Bundle", assessment: "Assessment") -> None:
    from ser_platform.evaluation.predictions_file import write_predictions
    from ser_platform.evaluation.test_figures import draw_confusion_matrix, draw_recalls
    from ser_platform.files import write_json

    folder.mkdir(parents=True, exist_ok=True)
    score, clips = assessment.score, assessment.clips
    title = f"{content['model']} on {assessment.corpus}: UAR {score.uar.value:.3f}, {assessment.protocol}"
    draw_confusion_matrix(score.matrix, bundle.labels, title, folder / "confusion_matrix.png")
    draw_recalls(score.matrix, bundle.labels, title, folder / "recall.png")
    write_json(folder / "evaluation.json", content)
    columns: dict[str, Any] = {name: clips.column(name) for name in ("id", "path", "speaker")}
    columns |= {"truth": clips.column("emotion"), "predicted": [bundle.labels[row] for row in score.predictions]}
    write_predictions(folder / "predictions.csv", columns, bundle.labels, assessment.probabilities)
