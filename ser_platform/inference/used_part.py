"""The part of a clip that a prediction is for, in words: a model has a longest input."""

from collections.abc import Sequence
from pathlib import Path

from ser_platform.inference.predictor import Prediction

NEGLIGIBLE_S = 0.1  # about a syllable; a shorter rest needs no note


def describe_cut_clips(predictions: Sequence[tuple[Path, Prediction]], max_seconds: float) -> str | None:
    """Return one line on the clips that are longer than a model's `max_seconds`, None where there are none.

    The part of a single clip is named; for several clips, their number is.
    """
    cut = [(path, prediction) for path, prediction in predictions if _is_cut(prediction, max_seconds)]
    if not cut:
        return None
    if len(predictions) == 1:
        path, prediction = cut[0]
        part = _name_part(prediction.used_s, prediction.duration_s)
        return f"{path} is {_format_duration(prediction.duration_s)} long; the prediction is for its {part}"
    return (
        f"{len(cut)} of {len(predictions)} files are longer than {max_seconds:g} s, the most that the model uses; "
        "--json prints the part of each as used_s"
    )


def _is_cut(prediction: Prediction, max_seconds: float) -> bool:
    start_s, end_s = prediction.used_s
    is_full = end_s - start_s >= max_seconds - NEGLIGIBLE_S  # otherwise only silence was trimmed or the start skipped
    return is_full and prediction.duration_s - (end_s - start_s) >= NEGLIGIBLE_S


def _name_part(used_s: tuple[float, float], duration_s: float) -> str:
    start_s, end_s = used_s
    if start_s < NEGLIGIBLE_S:
        return f"first {end_s:.3g} s"
    if abs(start_s - (duration_s - end_s)) < NEGLIGIBLE_S:
        return f"middle {end_s - start_s:.3g} s"
    return f"part from {_format_duration(start_s)} to {_format_duration(end_s)}"


def _format_duration(seconds: float) -> str:
    """Return `7.5 s`, and from a minute on `2:05`."""
    whole = round(seconds)
    return f"{seconds:.3g} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"
