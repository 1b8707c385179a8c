"""Windows of a clip: a model classifies each, and their logits are averaged."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunks:
    """Windows of `size` frames that begin `hop` frames apart.

    They cover a clip: the last window ends with the clip, so it may begin less than `hop` frames after the previous
    one. A clip shorter than a window is one window, padded with zeros.
    """

    size: int
    hop: int

    def count_windows(self, lengths: Tensor) -> Tensor:
        """Return the number of windows of clips of `lengths` frames, `(n_clips,)`."""
        return 1 + (-(-(lengths - self.size) // self.hop)).clamp_min(0)

    def locate_windows(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clip and the first frame of every window, both `(n_windows,)`, in the order of the clips."""
        counts = self.count_windows(lengths)
        clip_of = torch.repeat_interleave(counts)
        number = torch.arange(len(clip_of), device=lengths.device) - (counts.cumsum(0) - counts)[clip_of]
        last = (lengths - self.size).clamp_min(0)
        return clip_of, (number * self.hop).minimum(last[clip_of])

    def cut(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut a batch into windows.

        Args:
            features: `(n_clips, n_frames, n_features)`, 0 past a clip's end.
            lengths: frames of each clip, `(n_clips,)`.

        Returns:
            Windows `(n_windows, size, n_features)`, the frames of the clip in each, and its clip, both `(n_windows,)`.
        """
        clip_of, first = self.locate_windows(lengths)
        missing = self.size - features.shape[1]
        padded = torch.nn.functional.pad(features, (0, 0, 0, missing)) if missing > 0 else features
        frames = first[:, None] + torch.arange(self.size, device=features.device)
        return padded[clip_of[:, None], frames], lengths.clamp_max(self.size)[clip_of], clip_of


def average_by_clip(values: Tensor, clip_of: Tensor, n_clips: int) -> Tensor:
    """Average `(n_windows, n_values)` over the windows of each clip; return `(n_clips, n_values)`."""
    total = values.new_zeros(n_clips, values.shape[1]).index_add(0, clip_of, values)
    return total / torch.bincount(clip_of, minlength=n_clips)[:, None].to(values.dtype)


def average_logits(
    model: Callable[[Tensor, Tensor], Tensor], features: Tensor, lengths: Tensor, chunks: Chunks | None
) -> Tensor:
    """Return a model's logits `(n_clips, n_emotions)`: of whole clips, or their mean over the chunks of each clip."""
    if chunks is None:
        return model(features, lengths)
    windows, own, clip_of = chunks.cut(features, lengths)
    return average_by_clip(model(windows, own), clip_of, len(features))
