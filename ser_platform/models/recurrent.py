"""Recurrent layers over padded sequences that read only a clip's own steps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ser_platform.models.masking import frame_mask


def stack_frames(frames: Tensor, lengths: Tensor, subsample: int) -> tuple[Tensor, Tensor]:
    """Return stacks of `subsample` frames `(batch, n_steps, subsample * n_features)`, and each clip's number of stacks.

    Stacks shorten the recurrence, the slowest part of an LSTM (Sak, Senior, Rao & Beaufays, 2015, arXiv:1507.06947,
    section 3).
    """
    missing = -frames.shape[1] % subsample
    padded = F.pad(frames, (0, 0, 0, missing))
    return padded.reshape(frames.shape[0], -1, subsample * frames.shape[2]), -(-lengths // subsample)


def select_last_step(outputs: Tensor, steps: Tensor) -> Tensor:
    """Return a clip's own last output, `(batch, n_outputs)`."""
    return outputs[torch.arange(len(outputs), device=outputs.device), steps - 1]


def run_recurrent_layer(layer: nn.RNNBase, sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return the outputs `(batch, n_steps, n_outputs)` of an LSTM or GRU; zero beyond a clip's end.

    On CPUs the backward pass of torch's packed sequences copies the whole batch at every step, which makes a training
    step of an LSTM 3 to 11 times as long. Here each direction runs over padded sequences, the backward direction over
    reversed clips. cuDNN gets packed sequences.

    Args:
        layer: an `nn.LSTM` or `nn.GRU` with `batch_first`.
        sequences: `(batch, n_steps, n_inputs)`, padded at the end.
        lengths: steps of each clip, `(batch,)`.
    """
    if sequences.is_cuda:
        packed = pack_padded_sequence(sequences, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs: Tensor = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=sequences.shape[1])[0]
        return outputs
    turned = _reverse_positions(lengths, sequences.shape[1])
    for number in range(layer.num_layers):
        outputs = _run_direction(layer, f"l{number}", sequences)
        if layer.bidirectional:
            backward = _run_direction(layer, f"l{number}_reverse", _reorder(sequences, turned))
            outputs = torch.cat([outputs, _reorder(backward, turned)], dim=2)
        is_last = number == layer.num_layers - 1
        sequences = outputs if is_last else F.dropout(outputs, layer.dropout, layer.training)
    return sequences * frame_mask(lengths, sequences.shape[1])[:, :, None]


def _reverse_positions(lengths: Tensor, n_steps: int) -> Tensor:
    """Return the positions `(batch, n_steps)` that reverse each clip; padding stays at its position."""
    places = torch.arange(n_steps, device=lengths.device).expand(len(lengths), -1)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _reorder(sequences: Tensor, places: Tensor) -> Tensor:
    return sequences.gather(1, places[:, :, None].expand(-1, -1, sequences.shape[2]))


def _run_direction(layer: nn.RNNBase, name: str, sequences: Tensor) -> Tensor:
    """Return the outputs of one direction of one layer; `name` is the suffix of its weights."""
    weights = [getattr(layer, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state = sequences.new_zeros(1, len(sequences), layer.hidden_size)
    options = (True, 1, 0.0, layer.training, False, True)  # biases, layers, dropout, training, both ways, batch first
    if isinstance(layer, nn.LSTM):
        outputs: Tensor = torch.lstm(sequences, (state, state), weights, *options)[0]
    else:
        outputs = torch.gru(sequences, state, weights, *options)[0]
    return outputs
