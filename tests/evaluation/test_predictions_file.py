"""The file of predictions has one row per clip, with a column for each emotion where there are probabilities."""

from pathlib import Path

import numpy as np

from ser_platform.evaluation.predictions_file import write_predictions

COLUMNS = {"id": ["a", "b"], "sex": np.array(["female", None]), "predicted": ["anger", "neutral"]}


def test_probabilities_follow_the_columns_with_six_decimals(tmp_path: Path) -> None:
    probabilities = np.array([[0.75, 0.25], [1 / 3, 2 / 3]], dtype=np.float32)
    write_predictions(tmp_path / "predictions.csv", COLUMNS, ("anger", "neutral"), probabilities)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "id,sex,predicted,p_anger,p_neutral",
        "a,female,anger,0.750000,0.250000",
        "b,,neutral,0.333333,0.666667",
    ]


def test_a_file_without_probabilities_has_the_columns_only(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions.csv", COLUMNS)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1:] == ["a,female,anger", "b,,neutral"]
