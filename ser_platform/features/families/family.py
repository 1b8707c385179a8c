"""The interface of feature families, and families built from others: concatenation and change over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ser_platform.features.families.analysis import SPEECH_STFT, Analysis, Stft
from ser_platform.features.families.filters import make_savgol_weights

if TYPE_CHECKING:
    from torch import Tensor


class Family(Protocol):
    """One kind of feature, a frozen dataclass. Fields and `version` are the cache key: bump `version` when the result
    changes.
    """

    version: ClassVar[int]

    @property
    def sample_rate(self) -> int:
        """The sample rate in Hz of the waveform that the family is computed from."""

    @property
    def frame_s(self) -> float:
        """Seconds from one row to the next, infinite where a clip has one row."""

    @property
    def n_features(self) -> int: ...

    @property
    def column_names(self) -> tuple[str, ...]: ...

    def __call__(self, analysis: Analysis) -> Tensor:
        """Return the features `(n_frames, n_features)` of a clip."""


def number_columns(name: str, n_features: int) -> tuple[str, ...]:
    """Return numbered column names, such as `mel_0`, `mel_1`, ..."""
    return tuple(f"{name}_{number}" for number in range(n_features))


@dataclass(frozen=True)
class StftFamily:
    """A family whose rows are the frames of an `Stft`."""

    columns: ClassVar[tuple[str, ...]] = ()
    stft: Stft = SPEECH_STFT

    @property
    def sample_rate(self) -> int:
        return self.stft.sample_rate

    @property
    def frame_s(self) -> float:
        return self.stft.frame_s

    @property
    def n_features(self) -> int:
        return len(self.column_names)

    @property
    def column_names(self) -> tuple[str, ...]:
        return self.columns


@dataclass(frozen=True)
class Stack:
    """Families of one frame rate, their columns concatenated.

    Raises:
        ValueError: the frame rates or sample rates differ, or two columns have the same name.
    """

    version: ClassVar[int] = 1
    members: tuple[Family, ...]

    def __post_init__(self) -> None:
        if len({(member.frame_s, member.sample_rate) for member in self.members}) != 1:
            raise ValueError(f"stacked families must have the same frame rate and sample rate; got {self.members}")
        if len(set(self.column_names)) < self.n_features:
            raise ValueError(f"stacked families must have distinct column names; got {self.column_names}")

    @property
    def sample_rate(self) -> int:
        return self.members[0].sample_rate

    @property
    def frame_s(self) -> float:
        return self.members[0].frame_s

    @property
    def n_features(self) -> int:
        return sum(member.n_features for member in self.members)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(name for member in self.members for name in member.column_names)

    def __call__(self, analysis: Analysis) -> Tensor:
        import torch

        return torch.cat([analysis.compute(member) for member in self.members], dim=-1)


@dataclass(frozen=True)
class Delta:
    """Change of the columns of another family, per frame: the `order`-th derivative of the polynomial fitted to the
    window around each frame; at the ends, that of the first and the last full window.

    A clip shorter than a window is extended with its first and last frame. Source: `librosa.feature.delta`.
    """

    version: ClassVar[int] = 1
    family: Family
    order: int = 1
    width: int = 9  # frames; odd

    @property
    def sample_rate(self) -> int:
        return self.family.sample_rate

    @property
    def frame_s(self) -> float:
        return self.family.frame_s

    @property
    def n_features(self) -> int:
        return self.family.n_features

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(f"{name}_delta{'' if self.order == 1 else self.order}" for name in self.family.column_names)

    def __call__(self, analysis: Analysis) -> Tensor:
        return compute_change(analysis.compute(self.family), self.width, self.order)


def compute_change(values: Tensor, width: int, order: int = 1) -> Tensor:
    """Return the change of frames `(n_frames, n_columns)`; see `Delta`."""
    import torch

    n_frames, half = len(values), width // 2
    extended = values[torch.arange(-half, n_frames + half).clamp(0, n_frames - 1)]
    changes = extended.unfold(0, width, 1) @ make_savgol_weights(width, order).to(values.dtype)
    if n_frames < width:
        return changes
    # The derivative of a fit is constant over its window: frames at the ends take that of the nearest full window.
    return changes[torch.arange(n_frames).clamp(half, n_frames - 1 - half)]
