"""Whisper's encoder at a clip's own length; with the original padding to 30 s, short clips cost five times the work.

Source: Radford et al. (2023), Robust speech recognition via large-scale weak supervision, arXiv:2212.04356.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_platform.encoders.states import SpeechEncoder, is_ragged, make_length_mask

FLOOR = 1e-10  # power
SPAN = 8.0  # decades below a clip's loudest value at which its mel energies are clamped


class WhisperStates(SpeechEncoder):
    """The hidden states of a `transformers` Whisper encoder.

    Position embeddings are cut to the clip. A clip longer than they are (30 s) is encoded in windows of that length, as
    in Whisper's own transcription, and its frames are concatenated.

    Padding does not change the states of a clip: the mels and the output of the first convolution are 0 after its end,
    and no layer attends to frames after it.
    """

    def __init__(self, body: nn.Module, preprocessor: Mapping[str, Any]) -> None:
        from transformers.audio_utils import mel_filter_bank  # late: see `encoder`

        super().__init__()
        self.body = body
        cast(Any, body).embed_positions.requires_grad_(False)  # sinusoids, which the checkpoint lists among the weights
        self.n_fft = int(preprocessor.get("n_fft", 400))
        self.hop_length = int(preprocessor.get("hop_length", 160))
        config = cast(Any, body).config
        self.max_frames = 2 * int(config.max_source_positions)
        bank = mel_filter_bank(
            num_frequency_bins=1 + self.n_fft // 2,
            num_mel_filters=int(config.num_mel_bins),
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=int(preprocessor.get("sampling_rate", 16_000)),
            norm="slaney",
            mel_scale="slaney",
        )
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", torch.tensor(bank.T, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    @property
    def layers(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.body.layers)

    @property
    def final_layers(self) -> list[nn.Module]:
        """The final normalisation."""
        return [cast(nn.Module, self.body.layer_norm)]

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of clips of `lengths` samples, both `(batch,)`: one every 20 ms."""
        return (self._count_mel_frames(lengths) + 1) // 2

    def _count_mel_frames(self, lengths: Tensor) -> Tensor:
        return lengths.clamp_min(self.n_fft) // self.hop_length

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map samples `(batch, n_samples)` to states `(batch, n_frames, n_states, width)` and frames `(batch,)`."""
        counts = self._count_mel_frames(lengths)
        mels = self._compute_mels(waveforms, lengths, counts)
        if int(counts.max()) <= self.max_frames:
            return self._encode(mels, counts), self.frame_counts(lengths)
        windows, own_counts, clip_of = self._cut_windows(mels, counts)
        states = self._encode(windows, own_counts)
        parts = [part[: (count + 1) // 2] for part, count in zip(states, own_counts.tolist(), strict=True)]
        clips = [torch.cat([parts[row] for row in torch.nonzero(clip_of == clip)]) for clip in range(len(lengths))]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True), self.frame_counts(lengths)

    def _cut_windows(self, mels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut mels `(batch, n_mels, n_frames)` into windows; return these, their frame counts and their clips."""
        size = self.max_frames
        numbers = [(clip, first) for clip, n in enumerate(counts.tolist()) for first in range(0, n, size)]
        padded = F.pad(mels, (0, -mels.shape[2] % size))
        windows = torch.stack([padded[clip, :, first : first + size] for clip, first in numbers])
        clip_of, first = torch.tensor(numbers, device=mels.device).T
        return windows, (counts[clip_of] - first).clamp_max(size), clip_of

    def _compute_mels(self, waveforms: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
        """Return log-mel energies scaled as Whisper's input, `(batch, n_mels, n_frames)`, 0 after a clip's end.

        Source: `transformers.WhisperFeatureExtractor`, without its padding to 30 s.
        """
        mels = waveforms.new_zeros(len(waveforms), len(self.filters), int(counts.max()))
        for row, (samples, length, n_frames) in enumerate(
            zip(waveforms, lengths.tolist(), counts.tolist(), strict=True)
        ):
            clip = F.pad(samples[:length], (0, max(0, self.n_fft - length)))
            spectrum = torch.stft(clip, self.n_fft, self.hop_length, window=self.window, return_complex=True)
            power = self.filters @ spectrum[:, :n_frames].abs().square()
            logs = power.clamp_min(FLOOR).log10()
            mels[row, :, :n_frames] = (logs.maximum(logs.max() - SPAN) + 4.0) / 4.0
        return mels

    def _encode(self, mels: Tensor, counts: Tensor) -> Tensor:
        """Return the states `(batch, n_frames, n_states, width)` of mels `(batch, n_mels, n_mel_frames)`."""
        body = cast(Any, self.body)
        hidden = F.gelu(body.conv1(mels))
        ragged = is_ragged(counts)
        if ragged:
            hidden = hidden * make_length_mask(counts, hidden.shape[2])[:, None]
        hidden = F.gelu(body.conv2(hidden)).transpose(1, 2)
        hidden = hidden + body.embed_positions.weight[: hidden.shape[1]]
        hidden = F.dropout(hidden, p=body.dropout, training=body.training)
        mask = None
        if ragged:
            own_frames = make_length_mask((counts + 1) // 2, hidden.shape[1])
            mask = torch.zeros(own_frames.shape, dtype=hidden.dtype, device=hidden.device)
            mask = mask.masked_fill(~own_frames, torch.finfo(hidden.dtype).min)[:, None, None]
        states = [hidden]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return torch.stack([*states[:-1], body.layer_norm(states[-1])], dim=2)
