"""Temperature scaling: one number that makes probabilities honest (Guo et al., 2017, arXiv:1706.04599)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0  # a few clips that are all right would ask for certainty


def fit_temperature(
    logits: NDArray[np.float32], targets: NDArray[np.int64], min_temperature: float = MIN_TEMPERATURE
) -> float:
    """Return the temperature with the least negative log-likelihood on `logits` `(n_clips, n_emotions)`.

    It lies between `min_temperature` and `MAX_TEMPERATURE`.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(min_temperature), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))
