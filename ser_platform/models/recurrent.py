"""Recurrent layers that begin and end where each clip does."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ser_platform.models.masking import frame_mask


def stack_frames(frames: Tensor, lengths: Tensor, subsample: int) -> tuple[Tensor, Tensor]:
    """Return stacks of `subsample` frames, `(batch, n_steps, subsample * n_features)`, and how many each clip has.

    Stacking frames shortens the recurrence, which is what an LSTM's time goes into: Sak, Senior, Rao & Beaufays, 2015,
    arXiv:1507.06947, section 3.
    """
    missing = -frames.shape[1] % subsample
    padded = F.pad(frames, (0, 0, 0, missing))
    return padded.reshape(frames.shape[0], -1, subsample * frames.shape[2]), -(-lengths // subsample)


def last_step(outputs: Tensor, steps: Tensor) -> Tensor:
    """Return a clip's own last output, `(batch, n_outputs)`."""
    return outputs[torch.arange(len(outputs), device=outputs.device), steps - 1]


def run_recurrent_layer(layer: nn.RNNBase, sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return the outputs `(batch, n_steps, n_outputs)` of an LSTM or GRU; zero beyond a clip's end.

    torch's own way are packed sequences, whose backward pass copies the whole batch at every step: on a CPU an LSTM's
    training step takes 3 to 11 times as long. Here each direction runs over padded sequences, the backward one over
    clips that are turned round, each at its own end. cuDNN takes packed sequences as they are.

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
        outputs = _one_way(layer, f"l{number}", sequences)
        if layer.bidirectional:
            backward = _one_way(layer, f"l{number}_reverse", _take(sequences, turned))
            outputs = torch.cat([outputs, _take(backward, turned)], dim=2)
        is_last = number == layer.num_layers - 1
        sequences = outputs if is_last else F.dropout(outputs, layer.dropout, layer.training)
    return sequences * frame_mask(lengths, sequences.shape[1])[:, :, None]


def _reverse_positions(lengths: Tensor, n_steps: int) -> Tensor:
    """Return for each place the one that it changes with, `(batch, n_steps)`; padding stays where it is."""
    places = torch.arange(n_steps, device=lengths.device).expand(len(lengths), -1)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _take(sequences: Tensor, places: Tensor) -> Tensor:
    return sequences.gather(1, places[:, :, None].expand(-1, -1, sequences.shape[2]))


def _one_way(layer: nn.RNNBase, name: str, sequences: Tensor) -> Tensor:
    """Return the outputs of one layer's one direction, whose weights are called `name`."""
    weights = [getattr(layer, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state = sequences.new_zeros(1, len(sequences), layer.hidden_size)
    options = (True, 1, 0.0, layer.training, False, True)  # biases, layers, dropout, training, both ways, batch first
    if isinstance(layer, nn.LSTM):
        outputs: Tensor = torch.lstm(sequences, (state, state), weights, *options)[0]
    else:
        outputs = torch.gru(sequences, state, weights, *options)[0]
    return outputs
