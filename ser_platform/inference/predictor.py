"""From speech to emotion probabilities, along the path that training took: whole file, features, view, model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, Audio, read_audio
from ser_platform.errors import BadAudio, UserError
from ser_platform.features.views.chunks import averaged_logits
from ser_platform.features.views.normaliser import SPEAKER
from ser_platform.features.views.viewed_clips import features_of, features_of_speaker
from ser_platform.inference.bundle import Bundle


@dataclass(frozen=True)
class Prediction:
    """The most probable emotion and the probability of each, in [0, 1]."""

    emotion: str
    probabilities: dict[str, float]


# Different ones of a speaker. Accuracy of a linear student on inner dev speakers of EmoDB, by how many clips are scaled
# together: 2: 0.65, 5: 0.80, 10: 0.85, as without a word of who speaks; 20: 0.87, all: 0.89.
LEAST_CLIPS = 10


class Predictor:
    """Uses a bundle on single clips, or on those of one person."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._model = bundle.model()

    def probabilities(self, audio: Audio) -> NDArray[np.float32]:
        """Return probabilities `(n_emotions,)` of a clip."""
        return self._probabilities(features_of(self.bundle.view, audio, self.bundle.normaliser))

    def _probabilities(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        features = torch.from_numpy(columns)[None]
        lengths = torch.tensor([features.shape[1]])
        with torch.inference_mode():
            logits = averaged_logits(self._model, features, lengths, self.bundle.view.chunks)[0]
            probabilities: NDArray[np.float32] = (logits / self.bundle.temperature).softmax(dim=-1).numpy()
        return probabilities

    def predict(self, audio: Audio) -> Prediction:
        """Predict for a clip."""
        return self._named(self.probabilities(audio))

    def predict_speaker(self, clips: Sequence[Audio]) -> list[Prediction]:
        """Predict for clips of one person, each scaled by the statistics of all.

        Raises:
            UserError: the bundle hears each clip alone, or there are fewer than `LEAST_CLIPS` different ones.
        """
        self.require_speakers()
        different = len({clip.sha256 or str(id(clip)) for clip in clips})
        if different < LEAST_CLIPS:
            raise UserError(
                f"--one-speaker: {LEAST_CLIPS} different recordings or more tell what a voice is like, {different} can "
                "be used here"
            )
        features = features_of_speaker(self.bundle.view, clips, self.bundle.normaliser)
        return [self._named(self._probabilities(columns)) for columns in features]

    def require_speakers(self) -> None:
        """Refuse a bundle that hears each clip alone.

        Raises:
            UserError: it does.
        """
        if (how := self.bundle.view.normalise) != SPEAKER:
            raise UserError(
                f"the model was trained with features.normalise {how} and hears each file alone: leave --one-speaker "
                "out, or name one trained with features.normalise speaker with --model"
            )

    def _named(self, probabilities: NDArray[np.float32]) -> Prediction:
        named = {label: float(p) for label, p in zip(self.bundle.labels, probabilities, strict=True)}
        return Prediction(self.bundle.labels[int(probabilities.argmax())], named)

    def predict_file(self, path: Path) -> Prediction:
        """Predict for an audio file of any rate and number of channels.

        Raises:
            BadAudio: the file holds no usable speech.
        """
        return self.predict(read_audio(path))


def predicted(
    predictor: Predictor, files: Iterable[Path], one_speaker: bool = False
) -> tuple[list[tuple[Path, Prediction]], list[BadAudio]]:
    """Return what is said of each file, and of which files nothing can be said, for they hold no usable speech.

    `one_speaker` takes the files for one person's; see `Predictor.predict_speaker`.

    Raises:
        UserError: the model needs to know of a voice what it is not told, or is told what it does not need.
    """
    if one_speaker:
        predictor.require_speakers()
    said: list[tuple[Path, Prediction]] = []
    heard: list[tuple[Path, Audio]] = []
    refused: list[BadAudio] = []
    for path in files:
        try:
            if one_speaker:
                heard.append((path, read_audio(path)))
            else:
                said.append((path, predictor.predict_file(path)))
        except BadAudio as bad:
            refused.append(bad)
    if one_speaker:
        try:
            answers = predictor.predict_speaker([audio for _, audio in heard])
        except UserError as error:
            raise UserError("; ".join(map(str, (error, *refused[:1])))) from error
        said = [(path, answer) for (path, _), answer in zip(heard, answers, strict=True)]
    return said, refused


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
