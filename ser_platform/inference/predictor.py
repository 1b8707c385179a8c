"""Prediction of emotion probabilities from audio, with the same steps as training: file, features, view, model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.errors import UserError
from ser_platform.features.views.chunks import average_logits
from ser_platform.features.views.normaliser import SPEAKER_NORMALISATION
from ser_platform.features.views.viewed_clips import ViewedClip, view_clip, view_speaker_clips
from ser_platform.inference.bundle import Bundle
from ser_platform.torch_threads import limit_to_one_thread


@dataclass(frozen=True)
class Prediction:
    """The most probable emotion and the probability of each, in [0, 1].

    `used_s` are the start and end of the part of the clip that it is for; `duration_s` is the length of the clip.
    """

    emotion: str
    probabilities: dict[str, float]
    used_s: tuple[float, float]
    duration_s: float


# Different clips of a speaker. Accuracy of a linear student on inner dev speakers of EmoDB, by the number of clips that
# are normalised together: 2: 0.65, 5: 0.80, 10: 0.85 (equal to global normalisation), 20: 0.87, all: 0.89.
MIN_SPEAKER_CLIPS = 10


class Predictor:
    """Predicts with a bundle, for single clips or for the clips of one speaker.

    torch computes a prediction on one thread: for one clip, synchronising threads takes longer than it saves.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._model = bundle.load_model()

    def predict_probabilities(self, audio: Audio) -> NDArray[np.float32]:
        """Return the probabilities of a clip, `(n_emotions,)`."""
        return self._compute_probabilities(self._view(audio).features)

    def _view(self, audio: Audio) -> ViewedClip:
        with limit_to_one_thread():
            return view_clip(self.bundle.view, audio, self.bundle.normaliser)

    def _compute_probabilities(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        features = torch.from_numpy(columns)[None]
        lengths = torch.tensor([features.shape[1]])
        with limit_to_one_thread(), torch.inference_mode():
            logits = average_logits(self._model, features, lengths, self.bundle.view.chunks)[0]
            probabilities: NDArray[np.float32] = (logits / self.bundle.temperature).softmax(dim=-1).numpy()
        return probabilities

    def predict(self, audio: Audio) -> Prediction:
        """Return the prediction for a clip."""
        return self._predict_viewed(self._view(audio), audio)

    def predict_speaker(self, clips: Sequence[Audio]) -> list[Prediction]:
        """Return the predictions for clips of one speaker, each normalised by the statistics of all.

        Raises UserError where the model does not normalise by speaker, or fewer than `MIN_SPEAKER_CLIPS` clips differ.
        """
        self.require_speaker_normalisation()
        n_different = len({clip.sha256 or str(id(clip)) for clip in clips})
        if n_different < MIN_SPEAKER_CLIPS:
            raise UserError(
                f"--one-speaker needs at least {MIN_SPEAKER_CLIPS} different recordings of the speaker, "
                f"{n_different} can be used here"
            )
        with limit_to_one_thread():
            viewed = view_speaker_clips(self.bundle.view, clips, self.bundle.normaliser)
        return [self._predict_viewed(clip, audio) for clip, audio in zip(viewed, clips, strict=True)]

    def require_speaker_normalisation(self) -> None:
        """Raise UserError where the model does not normalise features by speaker."""
        if (how := self.bundle.view.normalise) != SPEAKER_NORMALISATION:
            raise UserError(
                f"the model was trained with features.normalise {how}, which --one-speaker does not apply to: leave it "
                "out, or choose a model trained with features.normalise speaker with --model"
            )

    def _predict_viewed(self, clip: ViewedClip, audio: Audio) -> Prediction:
        probabilities = self._compute_probabilities(clip.features)
        named = {label: float(p) for label, p in zip(self.bundle.labels, probabilities, strict=True)}
        emotion = self.bundle.labels[int(probabilities.argmax())]
        return Prediction(emotion, named, clip.used_s, audio.duration_s)

    def predict_file(self, path: Path) -> Prediction:
        """Return the prediction for any audio file. Raises BadAudio where it has no usable speech."""
        return self.predict(read_audio(path))
