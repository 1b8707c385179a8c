"""Temperature scaling of logits (Guo et al., 2017, arXiv:1706.04599)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0  # few clips, all classified correctly, have no optimum


def fit_temperature(
    logits: NDArray[np.float32], targets: NDArray[np.int64], min_temperature: float = MIN_TEMPERATURE
) -> float:
    """Return the temperature in [`min_temperature`, `MAX_TEMPERATURE`] with the least negative log-likelihood.

    Args:
        logits: `(n_clips, n_emotions)` of clips that the model was not trained on.
        targets: class indices `(n_clips,)`.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(min_temperature), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))
