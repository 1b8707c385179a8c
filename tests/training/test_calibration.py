import numpy as np
import pytest
from scipy.special import softmax

from ser_platform.training.calibration import fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_scaled_logits_is_found(temperature):
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0, 2, (20_000, 4))
    cumulated = softmax(calibrated, axis=1).cumsum(axis=1)
    targets = (rng.random((len(calibrated), 1)) > cumulated).sum(axis=1).clip(max=3)
    found = fit_temperature((temperature * calibrated).astype(np.float32), targets)
    assert found == pytest.approx(temperature, rel=0.05)


def test_a_model_that_is_always_right_stays_within_bounds():
    logits = 5 * np.eye(3, dtype=np.float32)
    assert 0.1 <= fit_temperature(logits, np.arange(3)) <= 0.2


def test_a_model_that_is_always_wrong_gets_the_highest_temperature():
    logits = 5 * np.eye(3, dtype=np.float32)
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(10.0, rel=0.01)
