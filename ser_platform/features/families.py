"""Families of frame features: settings in samples and hertz, from a clip to `(n_frames, n_features)`.

A family's fields and `version` are its cache key: bump `version` when the result changes. Families of one `Stft` share
its spectrum, and have the same frames, so that a feature set is columns side by side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.corpora.audio import DECODE_POLICY, SAMPLE_RATE, Audio
from ser_platform.files import digest_of

FLOOR = 1e-10  # power; digital silence would give -inf


@dataclass(frozen=True)
class Stft:
    """One short-time Fourier transform, centred, zeros beyond the ends; families that name the same one share it."""

    sample_rate: int = SAMPLE_RATE  # Hz
    n_fft: int = 512  # samples; next power of two
    win_length: int = 400  # samples; 25 ms
    hop_length: int = 160  # samples; 10 ms
    window: str = "hann"

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate


SPEECH = Stft()  # what the frame families share, so that a feature set is columns side by side


class Analysis:
    """One clip and what was already computed of it: waveforms by rate, spectra by `Stft`."""

    def __init__(self, audio: Audio) -> None:
        if audio.samples.ndim != 1:
            raise ValueError(f"waveform must be mono (n_samples,), got shape {audio.samples.shape}")
        self._audio = audio
        self._waveforms: dict[int, Tensor] = {}
        self._powers: dict[Stft, Tensor] = {}
        self._mels: dict[tuple[Stft, int], Tensor] = {}

    def waveform(self, sample_rate: int) -> Tensor:
        """Return the samples `(n_samples,)` at a rate in Hz."""
        if sample_rate not in self._waveforms:
            samples = self._audio.waveform if sample_rate == SAMPLE_RATE else self._audio.at(sample_rate)
            self._waveforms[sample_rate] = torch.from_numpy(samples)
        return self._waveforms[sample_rate]

    def power(self, stft: Stft) -> Tensor:
        """Return the power spectrum `(n_frames, n_fft // 2 + 1)`."""
        if stft not in self._powers:
            spectrum = torch.stft(
                self.waveform(stft.sample_rate),
                stft.n_fft,
                stft.hop_length,
                stft.win_length,
                _window(stft.window, stft.win_length),
                center=True,
                pad_mode="constant",  # reflection needs clips longer than half a window
                return_complex=True,
            )
            self._powers[stft] = torch.view_as_real(spectrum).square().sum(-1).T
        return self._powers[stft]

    def mel(self, stft: Stft, n_mels: int) -> Tensor:
        """Return mel energies `(n_frames, n_mels)`."""
        if (stft, n_mels) not in self._mels:
            self._mels[stft, n_mels] = self.power(stft) @ _mel_filters(stft.sample_rate, stft.n_fft, n_mels)
        return self._mels[stft, n_mels]

    def frames(self, stft: Stft) -> Tensor:
        """Return centred frames `(n_frames, win_length)`, as many as the spectrum has."""
        half = stft.win_length // 2
        padded = torch.nn.functional.pad(self.waveform(stft.sample_rate), (half, half))
        return padded.unfold(0, stft.win_length, stft.hop_length)


@lru_cache
def _window(name: str, win_length: int) -> Tensor:
    return {"hann": torch.hann_window, "hamming": torch.hamming_window}[name](win_length)


@lru_cache
def _mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Return Slaney's filters `(n_fft // 2 + 1, n_mels)`."""
    return torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, norm="slaney", mel_scale="slaney"
    )


@lru_cache
def _dct(n_mfcc: int, n_mels: int) -> Tensor:
    return torchaudio.functional.create_dct(n_mfcc, n_mels, norm="ortho")


class Family(Protocol):
    """One kind of feature. `frame_s` is the seconds from one row to the next; a column is one feature."""

    version: ClassVar[int]

    @property
    def frame_s(self) -> float: ...

    @property
    def n_features(self) -> int: ...

    def __call__(self, analysis: Analysis) -> Tensor: ...


@dataclass(frozen=True)
class _Framed:
    """A family whose rows are the frames of an `Stft`."""

    stft: Stft = SPEECH

    @property
    def frame_s(self) -> float:
        return self.stft.frame_s


@dataclass(frozen=True)
class LogMel(_Framed):
    """Natural-log mel energies, Slaney's mel scale and area normalisation."""

    version: ClassVar[int] = 2
    n_mels: int = 64

    @property
    def n_features(self) -> int:
        return self.n_mels

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.mel(self.stft, self.n_mels).clamp_min(FLOOR).log()


@dataclass(frozen=True)
class Mfcc(_Framed):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel energies (Davis & Mermelstein, 1980).

    All 40 are stored; using fewer is a view.
    """

    version: ClassVar[int] = 2
    n_mels: int = 64
    n_mfcc: int = 40

    @property
    def n_features(self) -> int:
        return self.n_mfcc

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.mel(self.stft, self.n_mels).clamp_min(FLOOR).log() @ _dct(self.n_mfcc, self.n_mels)


@dataclass(frozen=True)
class Zcr(_Framed):
    """Share of neighbouring samples in a frame that differ in sign, in [0, 1]."""

    version: ClassVar[int] = 2
    n_features: int = 1

    def __call__(self, analysis: Analysis) -> Tensor:
        negative = analysis.frames(self.stft) < 0
        return (negative[:, 1:] != negative[:, :-1]).float().mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Rms(_Framed):
    """Natural log of a frame's root mean square; full scale is 0."""

    version: ClassVar[int] = 2
    n_features: int = 1

    def __call__(self, analysis: Analysis) -> Tensor:
        return 0.5 * analysis.frames(self.stft).square().mean(dim=1, keepdim=True).clamp_min(FLOOR).log()


@dataclass(frozen=True)
class Waveform:
    """The samples themselves, one column."""

    version: ClassVar[int] = 2
    sample_rate: int = SAMPLE_RATE  # Hz
    n_features: int = 1

    @property
    def frame_s(self) -> float:
        return 1 / self.sample_rate

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.waveform(self.sample_rate)[:, None]


def family_key(name: str, family: Family) -> str:
    """Return the cache address of a family: its name and a digest of fields, version and decode policy."""
    content = {"fields": asdict(family), "version": family.version, "decode": DECODE_POLICY}  # type: ignore[call-overload]
    return f"{name}-{digest_of(content, 12)}"


def compute(audio: Audio, names: Iterable[str], families: Mapping[str, Family]) -> dict[str, NDArray[np.float32]]:
    """Return the features of each named family, `(n_frames, n_features)` float32, of one clip."""
    analysis = Analysis(audio)
    with torch.inference_mode():
        return {name: families[name](analysis).numpy() for name in names}
