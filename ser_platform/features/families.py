"""Families of frame features: settings in samples and hertz, from waveform `(n_samples,)` to `(n_frames, n_features)`.

A family's fields and `version` are its cache key: bump `version` when the result changes. All frame families share
hop and centring, hence frame counts, so that a feature set is columns side by side. Families that use the same
spectrum share one STFT.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.corpora.audio import DECODE_POLICY, SAMPLE_RATE
from ser_platform.files import digest_of

HOP_LENGTH = 160  # samples; 10 ms
WIN_LENGTH = 400  # samples; 25 ms
N_FFT = 512  # next power of two
FLOOR = 1e-10  # power; digital silence would give -inf


@dataclass(frozen=True)
class MelSpectrum:
    """What one STFT of `n_fft` gives; shared between families through `Analysis`."""

    n_fft: int = N_FFT
    win_length: int = WIN_LENGTH
    hop_length: int = HOP_LENGTH
    n_mels: int = 64


class Analysis:
    """One waveform and the spectra already computed of it."""

    def __init__(self, waveform: NDArray[np.float32]) -> None:
        if waveform.ndim != 1:
            raise ValueError(f"waveform must be mono (n_samples,), got shape {waveform.shape}")
        self.waveform = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        self._log_mels: dict[MelSpectrum, Tensor] = {}

    def log_mel(self, spectrum: MelSpectrum) -> Tensor:
        """Return natural-log mel energies `(n_frames, n_mels)`."""
        if spectrum not in self._log_mels:
            window, filters = _window(spectrum.win_length), _mel_filters(spectrum.n_fft, spectrum.n_mels)
            stft = torch.stft(
                self.waveform,
                spectrum.n_fft,
                spectrum.hop_length,
                spectrum.win_length,
                window,
                center=True,
                pad_mode="constant",  # reflection needs clips longer than half a window
                return_complex=True,
            )
            power = torch.view_as_real(stft).square().sum(-1)
            self._log_mels[spectrum] = (filters @ power).clamp_min(FLOOR).log().T
        return self._log_mels[spectrum]

    def frames(self) -> Tensor:
        """Return centred frames `(n_frames, WIN_LENGTH)`, as many as the STFT has."""
        padded = torch.nn.functional.pad(self.waveform, (WIN_LENGTH // 2, WIN_LENGTH // 2))
        return padded.unfold(0, WIN_LENGTH, HOP_LENGTH)


@lru_cache
def _window(win_length: int) -> Tensor:
    return torch.hann_window(win_length)


@lru_cache
def _mel_filters(n_fft: int, n_mels: int) -> Tensor:
    bank = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, SAMPLE_RATE / 2, n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return bank.T.contiguous()


@lru_cache
def _dct(n_mfcc: int, n_mels: int) -> Tensor:
    return torchaudio.functional.create_dct(n_mfcc, n_mels, norm="ortho")


class Family(Protocol):
    """One kind of feature. `hop_length` is in samples; a column is one feature."""

    version: ClassVar[int]

    @property
    def hop_length(self) -> int: ...

    @property
    def n_features(self) -> int: ...

    def __call__(self, analysis: Analysis) -> Tensor: ...


@dataclass(frozen=True)
class LogMel:
    """Natural-log mel energies, Slaney's mel scale and area normalisation."""

    version: ClassVar[int] = 1
    n_fft: int = N_FFT  # samples
    win_length: int = WIN_LENGTH  # samples
    hop_length: int = HOP_LENGTH  # samples
    n_mels: int = 64

    @property
    def n_features(self) -> int:
        return self.n_mels

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.log_mel(MelSpectrum(self.n_fft, self.win_length, self.hop_length, self.n_mels))


@dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel energies (Davis & Mermelstein, 1980).

    All 40 are stored; using fewer is a view.
    """

    version: ClassVar[int] = 1
    n_fft: int = N_FFT  # samples
    win_length: int = WIN_LENGTH  # samples
    hop_length: int = HOP_LENGTH  # samples
    n_mels: int = 64
    n_mfcc: int = 40

    @property
    def n_features(self) -> int:
        return self.n_mfcc

    def __call__(self, analysis: Analysis) -> Tensor:
        spectrum = MelSpectrum(self.n_fft, self.win_length, self.hop_length, self.n_mels)
        return analysis.log_mel(spectrum) @ _dct(self.n_mfcc, self.n_mels)


@dataclass(frozen=True)
class Zcr:
    """Share of neighbouring samples in a frame that differ in sign, in [0, 1]."""

    version: ClassVar[int] = 1
    win_length: int = WIN_LENGTH  # samples
    hop_length: int = HOP_LENGTH  # samples
    n_features: int = 1

    def __call__(self, analysis: Analysis) -> Tensor:
        negative = analysis.frames() < 0
        return (negative[:, 1:] != negative[:, :-1]).float().mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Rms:
    """Natural log of a frame's root mean square; full scale is 0."""

    version: ClassVar[int] = 1
    win_length: int = WIN_LENGTH  # samples
    hop_length: int = HOP_LENGTH  # samples
    n_features: int = 1

    def __call__(self, analysis: Analysis) -> Tensor:
        return 0.5 * analysis.frames().square().mean(dim=1, keepdim=True).clamp_min(FLOOR).log()


@dataclass(frozen=True)
class Waveform:
    """The samples themselves, one column."""

    version: ClassVar[int] = 1
    hop_length: int = 1  # samples
    n_features: int = 1

    def __call__(self, analysis: Analysis) -> Tensor:
        return analysis.waveform[:, None]


def family_key(name: str, family: Family) -> str:
    """Return the cache address of a family: its name and a digest of fields, version and decode policy."""
    content = {"fields": asdict(family), "version": family.version, "decode": DECODE_POLICY}  # type: ignore[call-overload]
    return f"{name}-{digest_of(content, 12)}"


def compute(
    waveform: NDArray[np.float32], names: Iterable[str], families: Mapping[str, Callable[[Analysis], Tensor]]
) -> dict[str, NDArray[np.float32]]:
    """Return the features of each named family, `(n_frames, n_features)` float32, from one waveform `(n_samples,)`."""
    analysis = Analysis(waveform)
    with torch.inference_mode():
        return {name: families[name](analysis).numpy() for name in names}
