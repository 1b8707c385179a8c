"""Any other encoder that `transformers` classifies audio with: its own feature extractor, its own forward pass."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ser_platform.encoders.states import SpeechEncoder
from ser_platform.errors import UserError


class GenericStates(SpeechEncoder):
    """The hidden states that a `transformers` model of audio gives when asked for them.

    Every clip is run alone: what such a model makes of padding is not known, so nothing is padded but by its own
    feature extractor.
    """

    def __init__(self, body: nn.Module, extractor: Any) -> None:
        super().__init__()
        self.body, self._extractor = body, extractor

    @property
    def layers(self) -> nn.ModuleList:
        """The longest list of modules, which in every transformer is that of its layers."""
        lists = [module for module in self.body.modules() if isinstance(module, nn.ModuleList)]
        n_layers = cast(Any, self.body).config.num_hidden_layers
        found = next((modules for modules in lists if len(modules) == n_layers), None)
        if found is None:
            raise UserError(f"{type(self.body).__name__} has no list of {n_layers} layers that could be told apart")
        return found

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Return how many frames clips of `lengths` samples have, both `(batch,)`.

        Raises:
            UserError: the encoder's frames do not follow from the samples; only statistics of it can be used.
        """
        counting = getattr(self.body, "_get_feat_extract_output_lengths", None)
        if counting is None:
            raise UserError(f"{type(self.body).__name__} has no frames at a fixed rate; take model.pooling statistics")
        counts: Tensor = counting(lengths).to(lengths.dtype)
        return counts

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map samples `(batch, n_samples)` to states `(batch, n_frames, n_states, width)` and frames `(batch,)`."""
        clips = [
            self._encode_clip(samples[:length]) for samples, length in zip(waveforms, lengths.tolist(), strict=True)
        ]
        counts = torch.tensor([len(clip) for clip in clips], device=lengths.device)
        return nn.utils.rnn.pad_sequence(clips, batch_first=True), counts

    def _encode_clip(self, samples: Tensor) -> Tensor:
        extracted = self._extractor(
            samples.detach().cpu().numpy(), sampling_rate=self._extractor.sampling_rate, return_tensors="pt"
        )
        inputs = {name: value.to(samples.device) for name, value in extracted.items()}
        states = self.body(**inputs, output_hidden_states=True).hidden_states
        return torch.stack([state[0] for state in states], dim=1)
