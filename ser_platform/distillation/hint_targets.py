"""Hint targets: embeddings of clips by the frozen encoder of a teacher.

A frozen encoder was trained without the corpus: its embeddings are the same in every fold and contain no held-out
label. The embeddings of other teachers depend on the clips of their fold, and are not comparable between folds.
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

READ_AT_ONCE = 256  # clips; each has about ten thousand numbers


def require_hint_teacher(teacher: Settings, title: str) -> None:
    """Raise UserError where a teacher, called `title`, has no frozen encoder pooled to statistics."""
    model = teacher.model
    if model.name not in PRETRAINED or (model.tuning, model.pooling) != (FROZEN, STATISTICS):
        listed = ", ".join(f"{name} {teacher.value(name)}" for name in ("model.name", "model.tuning", "model.pooling"))
        raise UserError(
            f"distill.hint needs a teacher on a frozen encoder (model.name pretrained, model.tuning {FROZEN}, "
            f"model.pooling {STATISTICS}); {title} has {listed}: set distill.hint to {NO_HINT}"
        )


def compute_encoder_embeddings(teacher: Settings, hashes: tuple[str, ...]) -> NDArray[np.float32]:
    """Return embeddings `(n_clips, width)` of the stored clips `hashes` by the encoder of a teacher's settings.

    An embedding is the mean over a clip's loud frames and over the hidden states that the teacher receives.
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
