"""The interface of encoders: hidden states of every layer, in which padding changes no clip."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

FLOOR = 1e-10  # power, -100 dB under full scale
LOUD_DB = 30.0  # speech is within this range of the loudest frame, pauses and breath are below


class SpeechEncoder(nn.Module, ABC):
    """A pretrained module over samples. `body` has all of its weights, `layers` are its transformer layers.

    States are the input of the first layer and the output of each; the last state is after the final normalisation.
    """

    body: nn.Module

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList: ...

    @property
    def final_layers(self) -> list[nn.Module]:
        """The modules after the last layer."""
        return []

    @abstractmethod
    def frame_counts(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of clips of `lengths` samples, both `(batch,)`."""

    @abstractmethod
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map samples `(batch, n_samples)`, 0 after a clip's end, to states `(batch, n_frames, n_states, width)` and
        the number of frames of each clip `(batch,)`.

        The states of a clip do not depend on the batch, up to rounding; states after its last frame are undefined.
        """


def is_ragged(counts: Tensor) -> bool:
    """Return whether the clips of a batch differ in length, so that some are padded."""
    return bool((counts != counts[0]).any())


def make_length_mask(counts: Tensor, size: int) -> Tensor:
    """Return a mask `(batch, size)`, True before a clip's end."""
    return torch.arange(size, device=counts.device) < counts[:, None]


def pad_to(waveforms: Tensor, least: int) -> Tensor:
    """Return samples `(batch, n_samples)`, zero-padded to at least `least` samples."""
    return nn.functional.pad(waveforms, (0, max(0, least - waveforms.shape[1])))


def find_loud_frames(samples: Tensor, n_frames: int, hop: int) -> Tensor:
    """Return which of a clip's frames are within `LOUD_DB` of its loudest one, `(n_frames,)`, at least one.

    Args:
        samples: of the clip, `(n_samples,)`.
        hop: samples from one frame to the next; levels are smoothed over three frames.
    """
    padded = nn.functional.pad(samples, (0, max(0, n_frames * hop - len(samples))))[: n_frames * hop]
    levels = 10 * padded.view(n_frames, hop).square().mean(dim=1).add(FLOOR).log10()
    smooth = nn.functional.pad(levels[None, None], (1, 1), mode="replicate")[0, 0].unfold(0, 3, 1).mean(dim=1)
    return smooth > smooth.max() - LOUD_DB


def collect_states(run: Callable[[], Tensor], layers: Iterable[nn.Module]) -> list[Tensor]:
    """Return the input of the first of `layers`, the output of each, and the value of `run` in place of the last."""
    states: list[Tensor] = []

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        states.append(arguments[0])

    def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    listed = list(layers)
    hooks = [listed[0].register_forward_pre_hook(before)]
    hooks += [layer.register_forward_hook(after) for layer in listed]
    try:
        last = run()
    finally:
        for hook in hooks:
            hook.remove()
    return [*states[:-1], last]
