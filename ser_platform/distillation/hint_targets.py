"""What hints are made of: embeddings of clips by the frozen encoder that a teacher hears through.

The encoder was trained without the corpus: its embeddings are the same in every fold and tell no held-out label. Those
of another teacher come from the clips it was trained on, and each fold's lie in a space of their own.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ser_platform.encoders import find_encoder
from ser_platform.errors import UserError
from ser_platform.features.families.encoded import STATISTICS_BLOCKS
from ser_platform.features.views.normaliser import NO_NORMALISATION, Normaliser
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.models import PRETRAINED
from ser_platform.models.pretrained import FROZEN, STATISTICS, select_states
from ser_platform.settings import Settings
from ser_platform.training.configuration import feature_view
from ser_platform.training.hint_loss import NO_HINT

READ_AT_ONCE = 256  # clips, of some ten thousand numbers each


def require_hint_teacher(teacher: Settings, title: str) -> None:
    """Refuse a teacher whose embeddings cannot be hints.

    Raises:
        UserError: it has no encoder, or one that is tuned or heard frame by frame.
    """
    has = {name: teacher.value(name) for name in ("model.name", "model.tuning", "model.pooling")}
    model = teacher.model
    if model.name not in PRETRAINED or (model.tuning, model.pooling) != (FROZEN, STATISTICS):
        listed = ", ".join(f"{name} {value}" for name, value in has.items())
        raise UserError(
            f"distill.hint needs a teacher on a frozen encoder (model.name pretrained, model.tuning {FROZEN}, "
            f"model.pooling {STATISTICS}); {title} has {listed}: set distill.hint to {NO_HINT}"
        )


def encoder_embeddings(teacher: Settings, hashes: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the embeddings of stored clips, `(n_clips, width)`, by the encoder of a teacher's settings.

    Of each clip the mean of its loud frames, and of the hidden states that the teacher hears.
    """
    view, encoder = replace(feature_view(teacher), normalise=NO_NORMALISATION), find_encoder(teacher.model.backbone)
    states = select_states(teacher.model.states, encoder.n_states, FROZEN)
    features = StoredViewedClips(view, hashes, dtype=teacher.features.dtype)
    unscaled, parts = Normaliser.identity(view.n_features), []
    for first in range(0, len(hashes), READ_AT_ONCE):
        rows = np.arange(first, min(first + READ_AT_ONCE, len(hashes)))
        columns = features.batch(rows, unscaled)[0].reshape(
            len(rows), len(STATISTICS_BLOCKS), encoder.n_states, encoder.width
        )
        parts.append(columns[:, STATISTICS_BLOCKS.index("loud_mean"), states.start : states.stop].mean(axis=1))
    return np.concatenate(parts)
