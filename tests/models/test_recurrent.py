import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ser_platform.models.recurrent import run_recurrent_layer, select_last_step, stack_frames


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both_ways", [False, True])
def test_outputs_and_gradients_are_those_of_packed_sequences(kind, layers, both_ways):
    torch.manual_seed(0)
    layer = kind(5, 4, layers, batch_first=True, bidirectional=both_ways)
    sequences, lengths = torch.randn(4, 9, 5, requires_grad=True), torch.tensor([9, 1, 5, 8])
    found = run_recurrent_layer(layer, sequences, lengths)
    given = pack_padded_sequence(sequences, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(layer(given)[0], batch_first=True, total_length=9)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    weighing = torch.randn_like(expected)
    parts = [sequences, *layer.parameters()]
    ours = torch.autograd.grad((found * weighing).sum(), parts)
    theirs = torch.autograd.grad((expected * weighing).sum(), parts)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_dropout_between_layers_is_for_training_alone():
    torch.manual_seed(0)
    layer = nn.GRU(3, 4, 2, batch_first=True, dropout=0.5)
    sequences, lengths = torch.randn(2, 6, 3), torch.tensor([6, 4])
    assert not torch.equal(
        run_recurrent_layer(layer, sequences, lengths), run_recurrent_layer(layer, sequences, lengths)
    )
    layer.eval()
    assert torch.equal(run_recurrent_layer(layer, sequences, lengths), run_recurrent_layer(layer, sequences, lengths))


def test_stacks_are_filled_with_zeros_and_counted_up():
    frames = torch.arange(1.0, 6.0).reshape(1, 5, 1)
    stacked, steps = stack_frames(frames, torch.tensor([5]), 2)
    assert stacked.tolist() == [[[1, 2], [3, 4], [5, 0]]] and steps.tolist() == [3]


def test_the_last_step_is_a_clips_own():
    outputs = torch.arange(8.0).reshape(2, 4, 1)
    assert select_last_step(outputs, torch.tensor([2, 4])).tolist() == [[1], [7]]
