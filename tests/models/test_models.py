"""Contract of every model: padding changes no logit, every weight has a gradient, parameters are counted unbuilt."""

import pytest
import torch
from torch import Tensor, nn

from ser_platform.errors import UnknownChoice
from ser_platform.models import MODELS, NEURAL, build_model, count_parameters, fill_default_sizes, find_architecture
from ser_platform.models.cnn_bilstm import CnnBiLstm
from ser_platform.models.normalisation import NORMS
from ser_platform.settings import SETTINGS, Settings, resolve

N_EMOTIONS = 5
FRAME_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 50, 101)
# As published, the last layer's backward direction is read at its first step: its recurrence has no gradient.
UNTRAINED = {"cnn_bilstm_vector": ["lstm.weight_hh_l1_reverse"]}
# Parameters at the default sizes, 7 emotions, on the published features.
PARAMETERS = {
    "cnn_bilstm": (64, 272_079),
    "lite_cnn": (1, 15_607),
    "bilstm": (201, 947_207),
    "attention_bilstm": (201, 1_075_207),
    "stacked_bilstm": (201, 2_650_119),
    "stacked_attention_bilstm": (201, 2_914_311),
    "gru": (180, 252_039),
    "chunk_cnn_lstm": (128, 582_631),
    "conformer": (64, 88_279),
    "separable_cnn": (64, 58_535),
    "mlp": (184, 32_775),
    "cnn_bilstm_vector": (184, 784_391),
}
SMALL_STUDENTS = ("lite_cnn", "conformer", "separable_cnn", "mlp")
SAMPLE_LENGTHS = (1600, 1601, 1999, 2048, 4097, 5000, 16_001)


def small(name: str, norm: str = "batch") -> Settings:
    sizes = {"model.width": 8, "model.hidden_size": 8, "model.layers": 2, "model.chunk": 16}
    return resolve({"model.name": name, "model.norm": norm, **sizes})


def n_features(name: str) -> int:
    return 1 if MODELS[name].takes_waveform else 21


def n_bands(name: str) -> int:
    return 1 if MODELS[name].takes_waveform else 64


def padded_batch(name: str) -> tuple[Tensor, Tensor]:
    """Return clips of many lengths, padded with zero at the end."""
    lengths = torch.tensor(SAMPLE_LENGTHS if MODELS[name].takes_waveform else FRAME_LENGTHS)
    features = torch.randn(len(lengths), int(lengths.max()), n_features(name))
    for row, length in enumerate(lengths.tolist()):
        features[row, length:] = 0
    return features, lengths


def trained(name: str, norm: str = "batch") -> nn.Module:
    """Return a model with running statistics, whose batch normalisation does not map padding to zero."""
    torch.manual_seed(0)
    model = build_model(small(name, norm), n_features(name), N_EMOTIONS)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    features, lengths = padded_batch(name)
    model.train()
    for _ in range(20):
        model(features + 0.5, lengths)
    return model.eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NEURAL)
def test_padding_changes_no_logit(name, norm):
    model = trained(name, norm)
    features, lengths = padded_batch(name)
    with torch.inference_mode():
        together = model(features, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(features[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-4, msg=f"a clip of {length}")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NEURAL)
def test_other_clips_of_the_batch_change_no_logit(name, norm):
    model = trained(name, norm)
    features, lengths = padded_batch(name)
    others = features.clone()
    others[1:] = 3 * torch.randn_like(others[1:])
    with torch.inference_mode():
        torch.testing.assert_close(model(features, lengths)[0], model(others, lengths)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NEURAL)
def test_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = build_model(small(name), n_features(name), N_EMOTIONS)
    features, lengths = padded_batch(name)
    nn.functional.cross_entropy(model(features, lengths), torch.arange(len(lengths)) % N_EMOTIONS).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == UNTRAINED.get(name, [])


@pytest.mark.parametrize("name", NEURAL)
def test_gradient_is_finite_where_a_clip_has_one_frame(name):
    model = build_model(small(name), n_features(name), N_EMOTIONS)
    length = 1600 if MODELS[name].takes_waveform else 1
    features = torch.zeros(2, length, n_features(name))
    model(features, torch.tensor([length, length])).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NEURAL)
def test_one_row_of_logits_for_each_clip(name):
    features, lengths = padded_batch(name)
    assert trained(name)(features, lengths).shape == (len(lengths), N_EMOTIONS)


@pytest.mark.parametrize("name", NEURAL)
def test_parameters_are_counted_without_building(name):
    settings = small(name)
    model = build_model(settings, n_features(name), N_EMOTIONS)
    assert count_parameters(settings, n_features(name), N_EMOTIONS) == sum(p.numel() for p in model.parameters())


def test_the_parameters_of_a_bilstm_match_the_formula():
    # Two directions of four gates on (inputs + hidden), two biases each; the classifier reads mean and std of both.
    settings = resolve({"model.name": "bilstm", "model.hidden_size": 16, "model.subsample": 4, "model.layers": 1})
    lstm = 2 * (4 * 16 * (64 * 4 + 16) + 2 * 4 * 16)
    assert count_parameters(settings, 64, 7) == lstm + (4 * 16 * 7 + 7)


@pytest.mark.parametrize("name", NEURAL)
def test_an_architecture_has_its_published_size_by_default(name):
    width, parameters = PARAMETERS[name]
    assert count_parameters(resolve({"model.name": name}), width, 7) == parameters


def test_a_stacked_bilstm_has_as_many_parameters_as_was_published():
    lstm = 2 * (4 * 256 * (201 + 256 + 2)) + 2 * (4 * 256 * (512 + 256 + 2))
    assert PARAMETERS["stacked_bilstm"][1] == lstm + (512 * 256 + 256) + (256 * 7 + 7)
    attention = 2 * 512 + (512 * 512 + 512) + 512  # normalisation, hidden layer, scores without a bias
    assert PARAMETERS["stacked_attention_bilstm"][1] == PARAMETERS["stacked_bilstm"][1] + attention


@pytest.mark.parametrize("name", SMALL_STUDENTS)
def test_a_small_student_stays_under_100_000_parameters_on_64_bands(name):
    assert count_parameters(resolve({"model.name": name}), n_bands(name), 8) < 100_000


def test_a_size_of_zero_is_replaced_by_the_default_and_other_sizes_are_kept():
    sized = fill_default_sizes(resolve({"model.name": "gru", "model.hidden_size": 24}))
    assert [sized.value(f"model.{name}") for name in ("hidden_size", "layers", "subsample", "width")] == [24, 2, 1, 0]


def test_a_model_takes_settings_that_exist():
    for name, chosen in MODELS.items():
        assert {f"model.{setting}" for setting in (*chosen.settings, *chosen.sizes)} <= SETTINGS.keys(), name


def test_an_unknown_model_is_refused_naming_the_valid_ones():
    with pytest.raises(UnknownChoice, match="'resnet'.*cnn_bilstm, lite_cnn, bilstm, attention_bilstm"):
        find_architecture("resnet")


@pytest.mark.parametrize("n_frames", [8, 40, 41, 100])
def test_the_recurrence_of_cnn_bilstm_runs_over_time(n_frames):
    model = CnnBiLstm(32, 3, width=4, hidden_size=6, layers=1, dropout=0.0, norm="batch").eval()
    seen = {}
    model.encoder.register_forward_hook(
        lambda _, given, came: seen.update(steps=came[0].shape[1], width=given[0].shape[2])
    )
    model(torch.randn(1, n_frames, 32), torch.tensor([n_frames]))
    assert seen == {"steps": -(-n_frames // 8), "width": 8 * 4}  # channels x bands, eight frames a step


def test_the_forward_direction_of_cnn_bilstm_does_not_depend_on_later_frames():
    model = CnnBiLstm(32, 3, width=4, hidden_size=6, layers=1, dropout=0.0, norm="batch").eval()
    outputs = []
    model.encoder.register_forward_hook(lambda _, given, came: outputs.append(came[0][0].detach()))
    features = torch.randn(1, 80, 32)
    model(features, torch.tensor([80]))
    model(torch.cat([features[:, :40], torch.randn(1, 40, 32)], dim=1), torch.tensor([80]))
    first, second = outputs
    torch.testing.assert_close(first[:4, :6], second[:4, :6])
    assert (first[:4, 6:] - second[:4, 6:]).abs().max() > 1e-4  # the backward direction depends on them
