"""`ser predict`: the emotion in recordings."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ser_platform.cli.chosen_model import MODEL_HELP, load_chosen_model
from ser_platform.cli.output import console, make_table, print_json
from ser_platform.errors import WorkFailed


def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Audio files, or folders of them.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "ser-student",
    one_speaker: Annotated[
        bool,
        typer.Option(
            "--one-speaker",
            help="The files are one person's, in several moods, 20 or more rather than the 10 it needs: each is heard "
            "against all. For models trained with features.normalise speaker, never champions: name one with --model.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the emotion in speech: the most probable one, and the probability of each."""
    from ser_platform.inference.predictor import Predictor, find_audio_files, predict_files

    files = find_audio_files(paths)
    chosen = load_chosen_model(model)
    predictions, refused = predict_files(Predictor(chosen.bundle), files, one_speaker)
    answers: list[dict[str, Any]] = [
        {
            "path": str(path),
            "emotion": prediction.emotion,
            "probabilities": prediction.probabilities,
            "model": chosen.name,
            "version": chosen.version,
        }
        for path, prediction in predictions
    ]
    if len(files) == 1 and refused:
        raise refused[0]
    if as_json:
        print_json(answers)
    elif answers:
        rows = [[a["path"], a["emotion"], _top(a["probabilities"])] for a in answers]
        console().print(make_table(chosen.title, ["file", "emotion", "probabilities"], rows))
    for unusable in refused:
        print(f"set aside: {unusable}", file=sys.stderr)
    if refused:
        raise WorkFailed(f"{len(refused)} of {len(files)} files could not be used")


def _top(probabilities: dict[str, float]) -> str:
    best = sorted(probabilities.items(), key=lambda item: -item[1])
    return "  ".join(f"{emotion} {probability:.2f}" for emotion, probability in best[:4])
