"""Contract of every kind of encoder: padding changes no state, and the states equal those of `transformers`."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, WhisperFeatureExtractor

from ser_platform.encoders import Encoder, find_encoder

RATE = 16_000
NAMES = (
    "tiny-whisper",
    "tiny-wav2vec2",
    "tiny-wav2vec2-layered",
    "tiny-hubert",
    "tiny-wavlm",
    "tiny-wavlm-layered",
    "tiny-spectrogram",
)
LENGTHS = (16_000, 1_600, 8_211, 12_001)
REAL = "whisper-tiny.en-encoder"
GIVEN = os.environ.get("SER_PRETRAINED", "")  # before the tests set it

pytestmark = pytest.mark.usefixtures("pretrained")


def speech(*lengths: int) -> tuple[Tensor, Tensor]:
    """Noise that swells and has an offset, padded with zeros: `(batch, n_samples)` and lengths."""
    rng, samples = np.random.default_rng(0), np.zeros((len(lengths), max(lengths)), dtype=np.float32)
    for row, length in enumerate(lengths):
        samples[row, :length] = np.linspace(0.01, 0.3, length) * rng.normal(size=length) + 0.02
    return torch.from_numpy(samples), torch.tensor(lengths)


def alone_and_together(encoder: Encoder, *lengths: int) -> list[tuple[Tensor, Tensor]]:
    """Return each clip's states alone and in the batch, `(n_frames, n_states, width)`."""
    module = encoder.load()
    samples, counts = speech(*lengths)
    with torch.inference_mode():
        together, frames = module(samples, counts)
        pairs = []
        for row, length in enumerate(lengths):
            alone, (n_frames,) = module(samples[row : row + 1, :length], counts[row : row + 1])
            assert frames[row] == n_frames == alone.shape[1]
            pairs.append((alone[0], together[row, :n_frames]))
    return pairs


@pytest.mark.parametrize("name", NAMES)
def test_the_states_of_a_clip_do_not_depend_on_the_batch(name):
    for alone, together in alone_and_together(find_encoder(name), *LENGTHS):
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_states_equal_those_of_transformers(name, pretrained):
    encoder = find_encoder(name)
    model = AutoModelForAudioClassification.from_pretrained(pretrained / name, config=encoder.config).eval()
    extractor = AutoFeatureExtractor.from_pretrained(pretrained / name)
    samples, lengths = speech(9_001)
    with torch.inference_mode():
        inputs = extractor(samples[0].numpy(), sampling_rate=RATE, return_tensors="pt")
        theirs = model(**inputs, output_hidden_states=True).hidden_states
        ours, _ = encoder.load()(samples, lengths)
    assert len(theirs) == encoder.n_states == ours.shape[2]
    # Theirs lacks the final normalisation in models that have one, ours has passed it.
    last = encoder.n_states - 1 if "layered" in name else encoder.n_states
    for number, state in enumerate(theirs[:last]):
        torch.testing.assert_close(ours[0, :, number], state[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tiny-wav2vec2-layered", "tiny-wavlm-layered"])
def test_the_last_state_has_passed_the_final_normalisation(name):
    module = find_encoder(name).load()
    norm = module.final_layers[0]
    norm.weight.data.zero_()
    norm.bias.data.fill_(3.0)
    states, _ = module(*speech(5_000))
    assert torch.all(states[:, :, -1] == 3.0) and not torch.any(states[:, :, -2] == 3.0)


def whisper_states(encoder: Encoder, samples: Tensor) -> tuple[Tensor, ...]:
    """Return the states from `transformers` for a clip of 30 s, the only length that it accepts."""
    mels = WhisperFeatureExtractor()(samples.numpy(), sampling_rate=RATE, return_tensors="pt").input_features
    body = encoder.load().body
    return body(mels, output_hidden_states=True).hidden_states


def test_whisper_has_the_states_of_transformers_for_thirty_seconds():
    encoder = find_encoder("tiny-whisper")
    samples, lengths = speech(30 * RATE)
    with torch.inference_mode():
        ours, counts = encoder.load()(samples, lengths)
        theirs = whisper_states(encoder, samples[0])
    assert counts.tolist() == [1500]
    for number, state in enumerate(theirs):
        torch.testing.assert_close(ours[0, :, number], state[0], atol=1e-5, rtol=0)


def test_whisper_encodes_a_long_clip_in_windows_of_thirty_seconds():
    module = find_encoder("tiny-whisper").load()
    samples, lengths = speech(35 * RATE + 123, 2 * RATE)
    with torch.inference_mode():
        states, counts = module(samples, lengths)
        alone, _ = module(samples[1:, : 2 * RATE], lengths[1:])
        cut, _ = module(samples[:1, : 30 * RATE], torch.tensor([30 * RATE]))
    assert counts.tolist() == [1750, 100]
    torch.testing.assert_close(states[1, :100], alone[0], atol=1e-5, rtol=0)
    # The input of the first layer depends on 30 ms around a frame: the cut changes it only there.
    torch.testing.assert_close(states[0, :1490, 0], cut[0, :1490, 0], atol=1e-5, rtol=0)
    # Positions begin anew, so the second window is what the rest of the clip is alone.
    with torch.inference_mode():
        rest, _ = module(samples[:1, 30 * RATE :], lengths[:1] - 30 * RATE)
    torch.testing.assert_close(states[0, 1510:1740, 0], rest[0, 10:240, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_very_short_clip_has_a_frame(name):
    states, counts = find_encoder(name).load()(*speech(200))
    assert counts.tolist() == [states.shape[1]] and counts[0] >= 1 and torch.isfinite(states).all()


@pytest.mark.parametrize("name", ["tiny-whisper", "tiny-wav2vec2", "tiny-wavlm-layered"])
def test_frames_are_counted_without_encoding_them(name):
    module = find_encoder(name).load()
    lengths = torch.arange(400, 1_300, 7)
    for length, count in zip(lengths.tolist(), module.frame_counts(lengths).tolist(), strict=True):
        assert module(*speech(length))[1].tolist() == [count]


@pytest.mark.parametrize("name", ["tiny-whisper", "tiny-wav2vec2", "tiny-wavlm"])
def test_nothing_is_dropped_or_masked_in_training(name):
    encoder = find_encoder(name)
    for dropout in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"):
        if hasattr(encoder.config, dropout):
            setattr(encoder.config, dropout, 0.0)
    module = encoder.load().train()
    first, second = (module(*speech(16_000))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_half_precision_weights_are_converted_to_float32(tmp_path, pretrained):
    model = AutoModelForAudioClassification.from_pretrained(pretrained / "tiny-whisper").half()
    model.save_pretrained(tmp_path / "half")
    encoder = find_encoder(str(tmp_path / "half"))
    assert {value.dtype for value in encoder.load().body.state_dict().values()} == {torch.float32}
    kept = encoder.body_weights()
    assert {value.dtype for value in kept.values()} == {torch.float16}
    assert all(torch.equal(kept[name].float(), value) for name, value in encoder.load().body.state_dict().items())


@pytest.mark.skipif(not GIVEN, reason="SER_PRETRAINED is not set: no real encoder here")
class TestRealWhisper:
    @pytest.fixture
    def encoder(self, monkeypatch) -> Encoder:
        monkeypatch.setenv("SER_PRETRAINED", GIVEN)
        if not (Path(GIVEN) / REAL).is_dir():
            pytest.skip(f"{GIVEN} has no {REAL}")
        return find_encoder(REAL)

    def test_the_states_of_a_clip_do_not_depend_on_the_batch(self, encoder):
        for alone, together in alone_and_together(encoder, 59_200, 16_001, 33_333):
            scale = alone.abs().amax(dim=(0, 2), keepdim=True)  # some columns of its states reach 500
            torch.testing.assert_close(together / scale, alone / scale, atol=1e-5, rtol=0)

    def test_thirty_seconds_have_the_states_of_transformers(self, encoder):
        samples, lengths = speech(30 * RATE)
        with torch.inference_mode():
            ours, _ = encoder.load()(samples, lengths)
            for number, state in enumerate(whisper_states(encoder, samples[0])):
                torch.testing.assert_close(ours[0, :, number], state[0], atol=1e-4, rtol=1e-5)
