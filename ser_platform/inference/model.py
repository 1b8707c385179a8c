"""A model for use from Python: its name, and what it predicts for files and samples."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ser_platform.corpora.audio.reader import audio_from_samples
from ser_platform.inference.predictor import Prediction, Predictor


@dataclass(frozen=True)
class Model:
    """A loaded model. `version` is None where it was read from a folder."""

    name: str
    version: str | None
    predictor: Predictor

    @property
    def title(self) -> str:
        return self.name if self.version is None else f"{self.name} v{self.version}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions that it predicts, in the order of its outputs."""
        return tuple(self.predictor.bundle.labels)

    def predict(self, speech: str | PathLike[str] | ArrayLike, sample_rate: int | None = None) -> Prediction:
        """Return the emotion of one utterance and the probability of each emotion.

        Args:
            speech: path of an audio file, or samples `(n_samples,)` or `(n_samples, n_channels)`: floats in [-1, 1] or
                signed integers of full scale.
            sample_rate: of samples, in Hz; a file has its own.

        Raises:
            BadAudio: the speech is unreadable, silent, not finite, shorter than 0.1 s or longer than 120 s.
            TypeError: samples come without a sample rate, or a file with one.

        Example:
            >>> import ser_platform as ser
            >>> model = ser.load("ser-student@champion")  # doctest: +SKIP
            >>> model.predict("clip.wav").emotion  # doctest: +SKIP
            'anger'
        """
        if isinstance(speech, str | PathLike):
            if sample_rate is not None:
                raise TypeError("sample_rate is for samples; a file has its own")
            return self.predictor.predict_file(Path(speech))
        if sample_rate is None:
            raise TypeError("samples need their sample_rate in Hz: predict(samples, sample_rate=16_000)")
        return self.predictor.predict(audio_from_samples(np.asarray(speech), sample_rate))
