"""A bundle as an MLflow pyfunc: what `mlflow models serve` and `mlflow.pyfunc.model` use.

The logged model holds data only (`loader_module` + `data_path`): none of its code runs, digests are checked first, and
where a registry is named (`MLFLOW_TRACKING_URI`) it must know the digest. Input: a table with one of the columns `path`
(audio files on the server), `audio` (a file's bytes, or base64 of them) and `samples` (mono, in [-1, 1]; beside it
`sample_rate` in Hz, 16,000 without). Output: a record a row.
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
    """Predicts emotion and probabilities for each row of a table, one or many."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return `{emotion, probabilities}` for each row.

        Raises:
            UserError: the table has no column that holds speech.
            BadAudio: a row holds no usable speech.
        """
        del params
        table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        if "path" in table:
            predictions = [self._predictor.predict_file(Path(path)) for path in table["path"]]
        elif "audio" in table:
            predictions = [self._of_bytes(content) for content in table["audio"]]
        elif "samples" in table:
            rates = table["sample_rate"] if "sample_rate" in table else [SAMPLE_RATE] * len(table)
            predictions = [self._of_samples(*row) for row in zip(table["samples"], rates, strict=True)]
        else:
            has = ", ".join(map(str, table)) or "none"
            raise UserError(f"input has the columns {has}; it needs one of: path, audio (bytes or base64), samples")
        return [{"emotion": p.emotion, "probabilities": p.probabilities} for p in predictions]

    def _of_bytes(self, content: str | bytes) -> Prediction:
        raw = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        with tempfile.NamedTemporaryFile(suffix=".audio") as file:
            file.write(raw)
            file.flush()
            return self._predictor.predict_file(Path(file.name))

    def _of_samples(self, samples: Any, rate: Any) -> Prediction:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:  # read as every file is: checked, and at one rate
            soundfile.write(file.name, np.asarray(samples, dtype=np.float32), int(rate), subtype="FLOAT")
            return self._predictor.predict_file(Path(file.name))


def _load_pyfunc(data_path: str) -> BundleModel:
    """Load the bundle in `data_path`; MLflow calls this by name.

    Raises:
        BundleError: it is damaged, or the registry knows no version with its digest: somebody has altered it.
    """
    folder = Path(data_path)
    bundle = read_bundle(folder)
    if "MLFLOW_TRACKING_URI" in os.environ:
        digest = hashlib.sha256((folder / DIGESTS_FILE).read_bytes()).hexdigest()
        if not open_client().search_model_versions(f"tags.digest = '{digest}'", max_results=1):
            raise BundleError(f"{folder} was altered: no registered version has its digest {digest[:12]}")
    return BundleModel(Predictor(bundle))
