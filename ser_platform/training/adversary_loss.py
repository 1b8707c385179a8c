"""The adversary's part of the loss: a model that has one is paid for hiding which language a clip speaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.errors import UserError
from ser_platform.models.model_output import ModelOutput
from ser_platform.models.pretrained import MAX_LANGUAGES
from ser_platform.training.batches.batch import Batch


def encode_languages(languages: Sequence[str | None] | NDArray[Any], train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for the language of every clip, `(n_clips,)`.

    Args:
        languages: of every clip, None where it is not known.
        train: the clips to train on.

    Raises:
        UserError: they are of one language, of too many, or of one that is not known.
    """
    spoken = sorted({str(languages[clip] or "") for clip in train})
    if "" in spoken:
        raise UserError("model.adversary needs the language of every training clip, and the corpus does not tell it")
    if not 2 <= len(spoken) <= MAX_LANGUAGES:
        raise UserError(
            f"model.adversary needs training clips of 2 to {MAX_LANGUAGES} languages; these are of {len(spoken)} "
            f"({', '.join(spoken)}): set it to 0, or join corpora, like --corpus ravdess+emodb"
        )
    number = {language: code for code, language in enumerate(spoken)}
    # Clips that are not trained on are not asked for theirs.
    return np.array([number.get(str(language or ""), 0) for language in languages], dtype=np.int64)


def language_loss(output: ModelOutput, batch: Batch) -> Tensor | float:
    """Return the adversary's cross-entropy in nats on what a model computes of a batch; 0 without an adversary.

    Like the other losses it is divided by the clips of the whole batch, so that parts of a batch add up to it.
    """
    if output.language_logits is None:
        return 0.0
    assert batch.languages is not None, "model.adversary needs the languages of the clips"
    whole = batch.targets if batch.full_batch_targets is None else batch.full_batch_targets
    return F.cross_entropy(output.language_logits.float(), batch.languages, reduction="sum") / len(whole)
