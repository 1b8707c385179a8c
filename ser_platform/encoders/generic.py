"""Other encoders with an audio classifier in `transformers`: its feature extractor and forward pass are used."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ser_platform.encoders.states import SpeechEncoder
from ser_platform.errors import UserError


class GenericStates(SpeechEncoder):
    """The hidden states of any `transformers` audio model (`output_hidden_states`).

    Each clip is run alone, because the effect of padding on such a model is unknown; only its own feature extractor
    pads.
    """

    def __init__(self, body: nn.Module, extractor: Any) -> None:
        super().__init__()
        self.body, self._extractor = body, extractor

    @property
    def layers(self) -> nn.ModuleList:
        """The list of modules that has as many entries as the configuration has layers."""
        lists = [module for module in self.body.modules() if isinstance(module, nn.ModuleList)]
        n_layers = cast(Any, self.body).config.num_hidden_layers
        found = next((modules for modules in lists if len(modules) == n_layers), None)
        if found is None:
            raise UserError(f"{type(self.body).__name__} has no list of {n_layers} layers that could be identified")
        return found

    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of clips of `lengths` samples, both `(batch,)`.

        Raises:
            UserError: the encoder has no fixed frame rate; only statistics of its states can be used.
        """
        counting = getattr(self.body, "_get_feat_extract_output_lengths", None)
        if counting is None:
            raise UserError(f"{type(self.body).__name__} has no frames at a fixed rate; use model.pooling statistics")
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
