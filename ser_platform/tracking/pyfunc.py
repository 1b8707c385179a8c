"""A bundle as an MLflow pyfunc: what `mlflow models serve` and `mlflow.pyfunc.load_model` use.

The logged model holds data only (`loader_module` + `data_path`): none of its code runs, digests are checked first.
Input: a table with a column `path` (audio files on the server) or `audio` (base64 of an audio file). Output: a record
a row.
"""

import base64
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from ser_platform.errors import UserError
from ser_platform.inference.bundle import read_bundle
from ser_platform.inference.predictor import Prediction, Predictor


class BundleModel:
    """Predicts emotion and probabilities for each row of a table."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return `{emotion, probabilities}` for each row.

        Raises:
            UserError: the table has neither a column `path` nor `audio`.
        """
        del params
        table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        if "path" in table:
            predictions = [self._predictor.predict_file(Path(path)) for path in table["path"]]
        elif "audio" in table:
            predictions = [self._of_bytes(content) for content in table["audio"]]
        else:
            raise UserError(f"input has the columns {list(table)}; it needs 'path' or 'audio' (base64 of a file)")
        return [{"emotion": p.emotion, "probabilities": p.probabilities} for p in predictions]

    def _of_bytes(self, content: str | bytes) -> Prediction:
        raw = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        with tempfile.NamedTemporaryFile(suffix=".audio") as file:
            file.write(raw)
            file.flush()
            return self._predictor.predict_file(Path(file.name))


def _load_pyfunc(data_path: str) -> BundleModel:
    """Load the bundle in `data_path`; MLflow calls this by name."""
    return BundleModel(Predictor(read_bundle(Path(data_path))))
