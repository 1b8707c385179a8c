"""`ser predict`: the emotion in recordings."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ser_platform.cli.options import MODEL_HELP, JsonOption, format_examples
from ser_platform.cli.output import make_display, print_json, print_table
from ser_platform.errors import WorkFailed
from ser_platform.workflows.chosen_model import load_chosen_model

MAX_EMOTIONS = 4  # in a table's cell
MANY_FILES = 65  # processes are prepared for these early; for fewer, once they would take more than a second
PROGRESS_AFTER_S = 2.0
EXAMPLES = format_examples("ser predict clip.wav", "ser predict recordings/ --model ser-teacher@champion --json")


def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER", help="Audio files, or folders of them.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "ser-student",
    one_speaker: Annotated[
        bool,
        typer.Option(
            "--one-speaker",
            help="All files are of one speaker in several emotions; at least 10 files, better 20. Needed by models "
            "trained with features.normalise=speaker; these are never champions, so name one with --model.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the emotion in recordings, with the probability of each emotion."""
    from ser_platform.evaluation.task import describe_synthetic_model, describe_training_corpora
    from ser_platform.inference.audio_files import find_audio_files
    from ser_platform.process_pool import import_for_pool
    from ser_platform.settings.environment import slots

    files = find_audio_files(paths)
    if len(files) >= MANY_FILES and slots() > 1 and not one_speaker:
        import_for_pool("ser_platform.inference.file_prediction")  # while this process imports MLflow
    chosen = load_chosen_model(model)
    corpus = chosen.bundle.provenance.get("corpus", "")
    if warning := describe_synthetic_model(chosen.title, corpus):
        print(warning, file=sys.stderr)

    from ser_platform.inference.file_prediction import FilePool, predict_files
    from ser_platform.inference.predictor import Predictor
    from ser_platform.inference.used_part import describe_cut_clips

    pool = FilePool(chosen.folder, chosen.digest, slots())
    with make_display(as_json=True).show_progress("predicted") as show:
        progress = partial(_show_later, show, time.monotonic())
        predictions, refused = predict_files(Predictor(chosen.bundle), files, one_speaker, pool, progress)
    if len(files) == 1 and refused:
        raise refused[0]
    answers: list[dict[str, Any]] = [
        {
            "path": str(path),
            "emotion": prediction.emotion,
            "probabilities": prediction.probabilities,
            "model": chosen.name,
            "version": chosen.version,
            "used_s": [round(second, 3) for second in prediction.used_s],
            "trained_on": corpus,
        }
        for path, prediction in predictions
    ]
    if as_json:
        print_json(answers)
    elif answers:
        rows = [[each["path"], each["emotion"], _format_probabilities(each["probabilities"])] for each in answers]
        title = f"{chosen.title}, trained on {describe_training_corpora(corpus)}"
        print_table(title, ["file", "emotion", "probabilities"], rows)
    if note := describe_cut_clips(predictions, chosen.bundle.view.max_seconds):
        print(note, file=sys.stderr)
    for unusable in refused:
        print(f"left out: {unusable}", file=sys.stderr)
    if refused:
        raise WorkFailed(f"{len(refused)} of {len(files)} files could not be used")


def _show_later(show: Callable[[int, int], None], began: float, done: int, n_all: int) -> None:
    if time.monotonic() - began > PROGRESS_AFTER_S:
        show(done, n_all)


def _format_probabilities(probabilities: dict[str, float]) -> str:
    best = sorted(probabilities.items(), key=lambda item: -item[1])[:MAX_EMOTIONS]
    return "  ".join(f"{emotion} {probability:.2f}" for emotion, probability in best)
