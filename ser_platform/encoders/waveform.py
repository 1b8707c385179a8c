"""wav2vec 2.0, HuBERT and WavLM: a convolutional feature extractor over samples, then transformer layers.

Sources: Baevski et al. (2020), arXiv:2006.11477; Hsu et al. (2021), arXiv:2106.07447; Chen et al. (2022),
arXiv:2110.13900.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ser_platform.encoders.states import SpeechEncoder, collect_states, is_ragged, make_length_mask, pad_to

EPSILON = 1e-7  # added to a clip's variance, as by `transformers.Wav2Vec2FeatureExtractor`


class WaveformStates(SpeechEncoder):
    """The hidden states of a `transformers` Wav2Vec2Model, HubertModel or WavLMModel.

    Padding does not change the states of a clip: its samples are scaled by its own mean and deviation; the convolutions
    are unpadded; where the first convolution is followed by a group normalisation over time (the base models), the
    statistics are those of the clip's own frames; and no layer attends to frames after its end. `transformers` computes
    these statistics over the padding too, so its states of a clip depend on the batch.
    """

    def __init__(self, body: nn.Module, preprocessor: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        self.is_scaled = bool(preprocessor.get("do_normalize", True))
        config = cast(Any, body).config
        self._kernels = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.min_samples = 1  # samples that make one frame
        for kernel, stride in reversed(self._kernels):
            self.min_samples = (self.min_samples - 1) * stride + kernel

    @property
    def layers(self) -> nn.ModuleList:
        return cast(nn.ModuleList, cast(Any, self.body).encoder.layers)

    @property
    def final_layers(self) -> list[nn.Module]:
        """The final normalisation, [] for models in which each layer ends with one."""
        body = cast(Any, self.body)
        return [body.encoder.layer_norm] if getattr(body.config, "do_stable_layer_norm", False) else []

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of clips of `lengths` samples, both `(batch,)`."""
        counts = lengths.clamp_min(self.min_samples)
        for kernel, stride in self._kernels:
            counts = (counts - kernel) // stride + 1
        return counts

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map samples `(batch, n_samples)` to states `(batch, n_frames, n_states, width)` and frames `(batch,)`."""
        lengths = lengths.clamp_min(self.min_samples)
        samples = pad_to(waveforms, self.min_samples)
        if self.is_scaled:
            samples = _scale_clips(samples, lengths)
        body, counts = cast(Any, self.body), self.frame_counts(lengths)
        projected = body.feature_projection(self._convolve(samples, lengths).transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        mask = make_length_mask(counts, hidden.shape[1]) if is_ragged(counts) else None
        states = collect_states(lambda: body.encoder(hidden, attention_mask=mask).last_hidden_state, self.layers)
        return torch.stack(states, dim=2), counts

    def _convolve(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Return the output of the convolutional feature extractor, `(batch, n_channels, n_frames)`."""
        hidden, counts = samples[:, None], lengths
        for layer, (kernel, stride) in zip(
            cast(Any, self.body).feature_extractor.conv_layers, self._kernels, strict=True
        ):
            counts = (counts - kernel) // stride + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and is_ragged(counts):
                hidden = layer.activation(_normalise_over_own_frames(layer.conv(hidden), counts, norm))
            else:
                hidden = layer(hidden)
        return hidden


def _scale_clips(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return samples `(batch, n_samples)` of zero mean and unit variance over each clip, 0 after its end."""
    mask, n_own = make_length_mask(lengths, samples.shape[1]), lengths[:, None].to(samples.dtype)
    centred = (samples - (samples * mask).sum(dim=1, keepdim=True) / n_own) * mask
    return centred * (centred.square().sum(dim=1, keepdim=True) / n_own + EPSILON).rsqrt()


def _normalise_over_own_frames(hidden: Tensor, counts: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Return `(batch, n_channels, n_frames)` with each channel normalised over the clip's own frames."""
    assert norm.num_groups == norm.num_channels, "these encoders normalise each channel"
    mask, n_own = make_length_mask(counts, hidden.shape[2])[:, None], counts[:, None, None].to(hidden.dtype)
    centred = (hidden - (hidden * mask).sum(dim=2, keepdim=True) / n_own) * mask
    variance = centred.square().sum(dim=2, keepdim=True) / n_own
    return centred * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
