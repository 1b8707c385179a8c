"""The loss of a language adversary (Ganin & Lempitsky, 2015, arXiv:1409.7495), and the language numbers it needs."""

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
    """Return a number for the language of every clip, `(n_clips,)`; 0 where no training clip has its language.

    Args:
        languages: the language of every clip, None where it is not known.
        train: the clips to train on.

    Raises:
        UserError: a training clip has no known language, or they have one language or more than `MAX_LANGUAGES`.
    """
    spoken = sorted({str(languages[clip] or "") for clip in train})
    if "" in spoken:
        raise UserError(
            "model.adversary needs the language of every training clip, which the corpus does not contain; set it to 0"
        )
    if not 2 <= len(spoken) <= MAX_LANGUAGES:
        raise UserError(
            f"model.adversary needs training clips of 2 to {MAX_LANGUAGES} languages; these are of {len(spoken)} "
            f"({', '.join(spoken)}); set it to 0, or join corpora, like --corpus ravdess+emodb"
        )
    number = {language: code for code, language in enumerate(spoken)}
    return np.array([number.get(str(language or ""), 0) for language in languages], dtype=np.int64)


def language_loss(output: ModelOutput, batch: Batch) -> Tensor | float:
    """Return the adversary's cross-entropy in nats, a scalar; 0 without an adversary.

    It is divided by the number of clips of the whole batch, so that the losses of its parts add up.
    """
    if output.language_logits is None:
        return 0.0
    assert batch.languages is not None, "model.adversary needs the languages of the clips"
    return F.cross_entropy(output.language_logits.float(), batch.languages, reduction="sum") / batch.full_size
