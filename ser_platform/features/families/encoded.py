"""Feature families of pretrained encoders: the hidden states of all layers.

They are computed once per clip and stored like every other family, so that training heads on a frozen encoder does not
run the encoder. The digest of the encoder's weights is part of the family's cache key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ser_platform import encoders
from ser_platform.errors import UserError
from ser_platform.features.families.analysis import Analysis
from ser_platform.features.families.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from ser_platform.encoders import Encoder, SpeechEncoder

STATISTICS_KIND, FRAMES_KIND = "statistics", "frames"
STATISTICS_BLOCKS = ("mean", "std", "loud_mean", "loud_std")  # of EncoderStatistics
LEAST_VARIANCE = 1e-10  # floor for a state that is constant over the frames


@dataclass(frozen=True)
class EncoderFamily:
    """What the families of an encoder share.

    Attributes:
        encoder: name and digest of the weights, `NAME@DIGEST`.
        n_states: hidden states per frame: the input of the first layer and the output of each layer.
        width: numbers per hidden state.
        sample_rate: sample rate in Hz of the encoder's input.
        hop_s: seconds from one frame to the next, infinite where frames have no fixed rate.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str]
    encoder: str
    n_states: int
    width: int
    sample_rate: int
    hop_s: float

    @classmethod
    def from_encoder(cls, encoder: Encoder) -> EncoderFamily:
        """Return the family of an encoder."""
        return cls(encoder.label, encoder.n_states, encoder.width, encoder.sample_rate, encoder.frame_s)

    @property
    def label(self) -> str:
        """The family's name, safe in file names."""
        return f"{self.encoder}.{self.kind}"

    def _columns(self, what: str = "") -> tuple[str, ...]:
        return tuple(f"state{state}_{what}{column}" for state in range(self.n_states) for column in range(self.width))

    def _states(self, analysis: Analysis) -> Tensor:
        """Return the hidden states of a clip, concatenated: `(n_frames, n_states * width)`."""
        import torch

        waveform = analysis.waveform(self.sample_rate)
        states: Tensor = _load_encoder(self.encoder)(waveform[None], torch.tensor([len(waveform)]))[0]
        return states[0].flatten(1)


@dataclass(frozen=True)
class EncoderStatistics(EncoderFamily):
    """One row per clip: mean and standard deviation over frames of every number of every hidden state.

    Both are taken over all frames, then over loud frames alone (within 30 dB of the loudest), which leaves out pauses.
    """

    version: ClassVar[int] = 2
    kind: ClassVar[str] = STATISTICS_KIND

    @property
    def frame_s(self) -> float:
        return math.inf

    @property
    def n_features(self) -> int:
        return len(STATISTICS_BLOCKS) * self.n_states * self.width

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(name for block in STATISTICS_BLOCKS for name in self._columns(f"{block}_"))

    def __call__(self, analysis: Analysis) -> Tensor:
        import torch

        frames = loud = self._states(analysis)
        if math.isfinite(self.hop_s):
            samples, hop = analysis.waveform(self.sample_rate), round(self.hop_s * self.sample_rate)
            loud = frames[encoders.find_loud_frames(samples, len(frames), hop)]
        return torch.cat([*_compute_mean_and_std(frames), *_compute_mean_and_std(loud)])[None]


def _compute_mean_and_std(frames: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    variance, mean = torch.var_mean(frames, dim=0, correction=0)
    return mean, variance.clamp_min(LEAST_VARIANCE).sqrt()


@dataclass(frozen=True)
class EncoderFrames(EncoderFamily):
    """One row per frame: the numbers of all hidden states, concatenated; best stored as float16.

    Raises:
        UserError: the encoder's frames have no fixed rate.
    """

    kind: ClassVar[str] = FRAMES_KIND

    def __post_init__(self) -> None:
        if math.isinf(self.hop_s):
            raise UserError(f"{self.encoder} has no frames at a fixed rate; use model.pooling statistics")

    @property
    def frame_s(self) -> float:
        return self.hop_s

    @property
    def n_features(self) -> int:
        return self.n_states * self.width

    @property
    def column_names(self) -> tuple[str, ...]:
        return self._columns()

    def __call__(self, analysis: Analysis) -> Tensor:
        return self._states(analysis)


KINDS: dict[str, type[EncoderStatistics] | type[EncoderFrames]] = {
    STATISTICS_KIND: EncoderStatistics,
    FRAMES_KIND: EncoderFrames,
}


def encoder_family_name(backbone: str, kind: str) -> str:
    """Return the name in `FAMILIES` of an encoder's family; `kind` is a key of `KINDS`.

    Raises:
        UserError: there is no such encoder.
    """
    return f"{encoders.find_encoder(backbone).pinned_name}.{kind}"


def is_encoder_family_name(name: str) -> bool:
    """Return whether a family's name has the form `ENCODER.KIND`, for any encoder."""
    spelled, _, kind = name.rpartition(".")
    return bool(spelled) and kind in KINDS


def find_encoder_family(name: str) -> Family | None:
    """Return the family named `ENCODER.KIND`, None for a name of another form.

    Raises:
        UserError: there is no such encoder, or its frames have no fixed rate.
    """
    if not is_encoder_family_name(name):
        return None
    spelled, _, kind = name.rpartition(".")
    return _make_family(kind, encoders.find_encoder(spelled).label, spelled)


@lru_cache(maxsize=32)
def _make_family(kind: str, label: str, spelled: str) -> Family:
    return KINDS[kind].from_encoder(encoders.find_encoder(spelled))  # type: ignore[return-value]


def parse_family_description(about: Mapping[str, Any]) -> Family | None:
    """Return the encoder family that a stored shard describes, without the encoder; None for any other family."""
    kinds = {kind.__name__: kind for kind in KINDS.values()}
    kind = kinds.get(str(about.get("kind")))
    if kind is None or about.get("version") != kind.version:
        return None
    try:
        return kind(**about["parameters"])
    except (TypeError, KeyError):
        return None  # of another version


def save_encoders(names: Iterable[str]) -> None:
    """Save the encoders of these families that came with a model under `SER_HOME`, for other processes."""
    for name in names:
        if is_encoder_family_name(name):
            encoders.save_encoder(encoders.find_encoder(name.rpartition(".")[0]))


@lru_cache(maxsize=2)
def _load_encoder(encoder: str) -> SpeechEncoder:
    """Return the module of an encoder that computes features, loaded once per process."""
    return encoders.find_encoder(encoder).load().requires_grad_(False)
