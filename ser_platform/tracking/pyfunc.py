"""A bundle as an MLflow pyfunc, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

The logged model has data but no code (`loader_module` and `data_path`). Digests are verified first; where
`MLFLOW_TRACKING_URI` is set, its registry must have a version with the digest. The input is a table with one of the
columns `path` (audio files on the server), `audio` (the bytes of a file, or base64 of them) and `samples` (mono, in
[-1, 1], with an optional column `sample_rate` in Hz, by default 16,000). The output is one record per row.
"""

import base64
import hashlib
import itertools
import os
import reprlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio, audio_from_samples, read_audio
from ser_platform.errors import BadAudio, BundleError, UserError, first_line
from ser_platform.inference.bundle import DIGESTS_FILE, read_bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.tracking.mlflow_store import open_client

NEEDS = "it needs one column of: path (on the server), audio (bytes or base64), samples (with sample_rate in Hz)"
PATH_ADVICE = "a path belongs in the column path"


class RefusedInput(MlflowException):
    """Input that cannot be predicted; MLflow's server answers its one sentence with the code 400."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        super().__init__(sentence, BAD_REQUEST)

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, text: str) -> None:
        """Keep the sentence: the server would put all input before it."""


class BundleModel:
    """Predicts emotion and probabilities for each row of a table."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return `{emotion, probabilities}` for each row.

        Raises:
            RefusedInput: the input has not one column of speech, or a row has no usable speech; names the row.
        """
        del params
        try:
            table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        except ValueError as error:
            raise RefusedInput(f"the input is not a table of rows ({first_line(error)}); {NEEDS}") from error
        given = [name for name in READERS if name in table]
        if len(given) != 1:
            raise RefusedInput(f"the input has {' and '.join(given) or 'no column of speech'}; {NEEDS}")
        cells, rates = table[given[0]], itertools.repeat(SAMPLE_RATE)
        if given[0] != "samples":
            cells = cells.explode()  # MLflow makes one row of a list in `inputs`
        elif "sample_rate" in table:
            rates = table["sample_rate"]
        predictions = []
        for number, (content, rate) in enumerate(zip(cells, rates, strict=False), 1):
            try:
                prediction = self._predictor.predict(READERS[given[0]](content, rate))
            except UserError as error:
                raise RefusedInput(f"row {number}: {error}") from error
            predictions.append({"emotion": prediction.emotion, "probabilities": prediction.probabilities})
        return predictions


def _read_path(path: Any, rate: Any) -> Audio:
    del rate
    if not isinstance(path, str):
        raise UserError(f"path is {path!r}; it must be the path of an audio file on the server")
    return read_audio(Path(path))


def _read_bytes(content: Any, rate: Any) -> Audio:
    del rate
    try:
        raw = content if isinstance(content, bytes) else base64.b64decode(content, validate=True)
    except (TypeError, ValueError) as error:
        raise UserError(f"audio {reprlib.repr(content)} is not base64 of the bytes of a file; {PATH_ADVICE}") from error
    if not raw:
        raise UserError("audio is empty")
    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        file.write(raw)
        file.flush()
        try:
            return read_audio(Path(file.name))
        except BadAudio as error:
            raise BadAudio("audio", error.reason) from error


def _read_samples(samples: Any, rate: Any) -> Audio:
    try:
        return audio_from_samples(np.asarray(samples, dtype=np.float32), int(rate))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"samples {reprlib.repr(samples)} at sample_rate {rate!r}: both must be numbers, samples a list"
        ) from error


# Reads the content of a column of speech; the second argument is the sample rate of samples.
READERS: dict[str, Callable[[Any, Any], Audio]] = {"path": _read_path, "audio": _read_bytes, "samples": _read_samples}


def _load_pyfunc(data_path: str) -> BundleModel:
    """Load the bundle in `data_path` (MLflow calls this by name). Raises BundleError where it was altered."""
    folder = Path(data_path)
    bundle = read_bundle(folder)
    if "MLFLOW_TRACKING_URI" in os.environ:
        digest = hashlib.sha256((folder / DIGESTS_FILE).read_bytes()).hexdigest()
        if not open_client().search_model_versions(f"tags.digest = '{digest}'", max_results=1):
            raise BundleError(f"{folder} was altered: no registered version has its digest {digest[:12]}")
    return BundleModel(Predictor(bundle))
