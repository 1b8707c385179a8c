"""Weights in 8 bits: their rounding error, and the predictions of a bundle with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ser_platform.corpora.audio.reader import Audio
from ser_platform.errors import UserError
from ser_platform.inference.bundle import read_bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.inference.quantisation import dequantise, quantise
from ser_platform.models import NEURAL
from tests.inference.test_bundle import made_bundle


def test_a_channel_is_rounded_by_its_own_largest_weight():
    kept = quantise({"weight": torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0254, 0.01]])})
    assert kept["weight"].tolist() == [[127, -50, 0], [0, 127, 50]]
    torch.testing.assert_close(kept["scale:weight"], torch.tensor([0.01, 0.0002]))
    torch.testing.assert_close(dequantise(kept)["weight"], torch.tensor([[1.27, -0.5, 0.0], [0.0, 0.0254, 0.01]]))


@pytest.mark.parametrize("shape", [(6, 5), (4, 1, 3, 3), (7, 2, 5)])
def test_no_weight_changes_by_more_than_half_a_step(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    back = dequantise(quantise({"weight": weight}))["weight"]
    steps = weight.flatten(1).abs().amax(dim=1) / 127
    assert ((back - weight).flatten(1).abs() <= 0.5001 * steps[:, None]).all()


def test_biases_and_integers_are_not_quantised():
    state = {"bias": torch.randn(5), "batches": torch.tensor(7), "numbers": torch.arange(6).reshape(2, 3)}
    back = dequantise(quantise(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_channel_of_zeros_stays_zero():
    assert dequantise(quantise({"weight": torch.zeros(2, 3)}))["weight"].tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", NEURAL)
def test_a_bundle_in_8_bits_predicts_what_one_in_float32_does(name, tmp_path, tone):
    written = made_bundle(name)
    read = read_bundle(tmp_path / "small", written.write(tmp_path / "small", "card", int8=True))
    written.write(tmp_path / "whole", "card")
    small, whole = (tmp_path / kind / "model.safetensors" for kind in ("small", "whole"))
    assert any(value.dtype == torch.int8 for value in load_file(small).values())
    assert small.stat().st_size < whole.stat().st_size
    assert read.state.keys() == written.state.keys()
    for pitch in (150.0, 400.0):
        clip = Audio(tone(pitch, 1.0), 16_000)
        found, expected = (Predictor(bundle).predict_probabilities(clip) for bundle in (read, written))
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_bundle_that_is_written_again_has_the_same_digest(tmp_path):
    first = made_bundle().write(tmp_path / "first", "card", int8=True)
    again = read_bundle(tmp_path / "first")
    assert again.card == "card"
    assert again.write(tmp_path / "second", again.card, int8=True) == first


def test_models_without_weights_are_refused(tmp_path):
    forest = replace(made_bundle(), settings=made_bundle().settings.with_overrides({"model.name": "forest"}))
    with pytest.raises(UserError, match="forest has no weights to store in 8 bits"):
        forest.write(tmp_path / "bundle", "card", int8=True)
    assert not (tmp_path / "bundle").exists()
