"""A bundle as an MLflow pyfunc, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

The logged model has data but no code (`loader_module` and `data_path`). Digests are verified first; where
`MLFLOW_TRACKING_URI` is set, its registry must have a version with the digest. The input is a table with one of the
columns `path` (audio files on the server), `audio` (the bytes of a file, or base64 of them) and `samples` (mono, in
[-1, 1], with an optional column `sample_rate` in Hz, by default 16,000). The output is one record per row.
"""

import base64
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.errors import BundleError, UserError
from ser_platform.inference.bundle import DIGESTS_FILE, read_bundle
from ser_platform.inference.predictor import Prediction, Predictor
from ser_platform.tracking.mlflow_store import open_client


class BundleModel:
    """Predicts emotion and probabilities for each row of a table."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return `{emotion, probabilities}` for each row.

        Raises UserError where the table has no column of speech, and BadAudio where a row has no usable speech.
        """
        del params
        table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        if "path" in table:
            predictions = [self._predictor.predict_file(Path(path)) for path in table["path"]]
        elif "audio" in table:
            predictions = [self._predict_bytes(content) for content in table["audio"]]
        elif "samples" in table:
            rates = table["sample_rate"] if "sample_rate" in table else [SAMPLE_RATE] * len(table)
            predictions = [self._predict_samples(*row) for row in zip(table["samples"], rates, strict=True)]
        else:
            has = ", ".join(map(str, table)) or "none"
            raise UserError(f"input has the columns {has}; it needs one of: path, audio (bytes or base64), samples")
        return [{"emotion": p.emotion, "probabilities": p.probabilities} for p in predictions]

    def _predict_bytes(self, content: str | bytes) -> Prediction:
        raw = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        with tempfile.NamedTemporaryFile(suffix=".audio") as file:
            file.write(raw)
            file.flush()
            return self._predictor.predict_file(Path(file.name))

    def _predict_samples(self, samples: Any, rate: Any) -> Prediction:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:  # so that it is read like any audio file
            soundfile.write(file.name, np.asarray(samples, dtype=np.float32), int(rate), subtype="FLOAT")
            return self._predictor.predict_file(Path(file.name))


def _load_pyfunc(data_path: str) -> BundleModel:
    """Load the bundle in `data_path` (MLflow calls this by name). Raises BundleError where it was altered."""
    folder = Path(data_path)
    bundle = read_bundle(folder)
    if "MLFLOW_TRACKING_URI" in os.environ:
        digest = hashlib.sha256((folder / DIGESTS_FILE).read_bytes()).hexdigest()
        if not open_client().search_model_versions(f"tags.digest = '{digest}'", max_results=1):
            raise BundleError(f"{folder} was altered: no registered version has its digest {digest[:12]}")
    return BundleModel(Predictor(bundle))
