import pytest
import torch
from torch import nn

from ser_platform.models import MODELS, NEURAL, build_model
from ser_platform.models.bilstm import BiLstmEncoder
from ser_platform.models.complexity import count_macs
from ser_platform.models.conformer import SelfAttention
from ser_platform.models.forward_latency import measure_forward_ms
from ser_platform.settings import resolve


def test_a_linear_layer_multiplies_every_input_by_every_output():
    assert count_macs(nn.Linear(10, 7), torch.zeros(3, 10)) == 3 * 10 * 7


def test_a_convolution_costs_its_kernel_at_every_position():
    # 8 x 6 positions by 3 x 3 by 4 inputs by 5 outputs; depthwise there is one input to each output.
    assert count_macs(nn.Conv2d(4, 5, 3, padding=1), torch.zeros(1, 4, 8, 6)) == 8 * 6 * 9 * 4 * 5
    assert count_macs(nn.Conv2d(4, 4, 3, padding=1, groups=4), torch.zeros(1, 4, 8, 6)) == 8 * 6 * 9 * 4


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_a_recurrent_layer_costs_its_gates_at_every_step(kind, gates):
    layer = kind(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    first, second = 2 * gates * 5 * (6 + 5), 2 * gates * 5 * (10 + 5)
    assert count_macs(layer, torch.zeros(1, 7, 6)) == 7 * (first + second)


def test_a_recurrent_layer_inside_a_model_is_counted_once():
    encoder = BiLstmEncoder(6, 5, layers=1, subsample=2)
    assert count_macs(encoder, torch.zeros(1, 9, 6), torch.tensor([9])) == 5 * 2 * 4 * 5 * (12 + 5)


def test_attention_costs_scores_and_mixtures():
    steps, size = 9, 8
    macs = count_macs(SelfAttention(size), torch.zeros(1, steps, size), torch.ones(1, steps, dtype=torch.bool))
    assert macs == 4 * steps * size * size + 2 * steps * steps * size


@pytest.mark.parametrize("name", NEURAL)
def test_every_weight_of_a_model_multiplies_at_least_once(name):
    settings = resolve({"model.name": name, "model.hidden_size": 8, "model.width": 8, "model.layers": 1})
    n_features, n_frames = (1, 8000) if MODELS[name].takes_waveform else (32, 60)
    model = build_model(settings, n_features, 7).eval()
    inputs = torch.zeros(1, n_frames, n_features), torch.tensor([n_frames])
    weights = [p for n, p in model.named_parameters() if p.dim() > 1 and "_hh_l" not in n]
    assert count_macs(model, *inputs) >= sum(p.numel() for p in weights)
    assert 0 < measure_forward_ms(model, *inputs) < 1000


def test_timing_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    measure_forward_ms(nn.Linear(2, 2), torch.zeros(1, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 2
