import numpy as np

from ser_platform.features.normaliser import STD_FLOOR, Normaliser


def fitted(frames: np.ndarray) -> Normaliser:
    return Normaliser.from_sums(len(frames), frames.sum(axis=0), (frames**2).sum(axis=0))


def test_what_it_was_fitted_on_comes_out_with_mean_zero_and_deviation_one():
    frames = np.random.default_rng(0).normal([3.0, -50.0], [0.1, 20.0], (500, 2))
    scaled = fitted(frames)(frames.astype(np.float32))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_a_constant_column_comes_out_as_zero():
    normaliser = fitted(np.full((10, 1), 2.0))
    assert normaliser.std.tolist() == [np.float32(STD_FLOOR)]
    assert normaliser(np.full((3, 1), 2.0, np.float32)).tolist() == [[0], [0], [0]]
