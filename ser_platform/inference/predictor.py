"""From speech to emotion probabilities, along the path that training took: whole file, features, view, model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio import AUDIO_SUFFIXES, Audio, read_audio
from ser_platform.errors import UserError
from ser_platform.features.chunks import averaged_logits
from ser_platform.features.viewed import features_of
from ser_platform.inference.bundle import Bundle


@dataclass(frozen=True)
class Prediction:
    """The most probable emotion and the probability of each, in [0, 1]."""

    emotion: str
    probabilities: dict[str, float]


class Predictor:
    """Uses a bundle on single clips."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._model = bundle.model()

    def probabilities(self, audio: Audio) -> NDArray[np.float32]:
        """Return probabilities `(n_emotions,)` of a clip."""
        features = torch.from_numpy(features_of(self.bundle.view, audio, self.bundle.normaliser))[None]
        lengths = torch.tensor([features.shape[1]])
        with torch.inference_mode():
            logits = averaged_logits(self._model, features, lengths, self.bundle.view.chunks)[0]
            probabilities: NDArray[np.float32] = (logits / self.bundle.temperature).softmax(dim=-1).numpy()
        return probabilities

    def predict(self, audio: Audio) -> Prediction:
        """Predict for a clip."""
        probabilities = self.probabilities(audio)
        named = {label: float(p) for label, p in zip(self.bundle.labels, probabilities, strict=True)}
        return Prediction(self.bundle.labels[int(probabilities.argmax())], named)

    def predict_file(self, path: Path) -> Prediction:
        """Predict for an audio file of any rate and number of channels.

        Raises:
            BadAudio: the file holds no usable speech.
        """
        return self.predict(read_audio(path))


def audio_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among `paths` and the audio files in the folders among them, sorted within a folder.

    Raises:
        UserError: a path does not exist, or a folder holds no audio.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
            if not inside:
                raise UserError(f"{path} holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return files
