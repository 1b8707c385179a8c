"""Changes of speed, tempo and pitch.

Pitch and tempo express emotion: anger is high and fast, sadness low and slow. Only small changes preserve the label.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ser_platform.corpora.audio.reader import SILENCE_PEAK
from ser_platform.features.augmentation.transform import (
    Range,
    Samples,
    Transform,
    check_range,
    compute_rms,
    draw_uniform,
    fit_length,
)

WINDOW_S = 0.032  # s; of the phase vocoder: several pitch periods of any voice
# torchaudio's kernels grow with both parts of the ratio: 2 semitones at 16 kHz in its own pitch_shift take a kernel of
# 1 GB. With denominators up to this, the error in pitch is at most 2 cents.
LARGEST_DENOMINATOR = 400


@dataclass(frozen=True)
class Speed(Transform):
    """Playback faster or slower by one of `factors`: pitch and formants change with the tempo.

    Changes the length, to `n_samples / factor` rounded up. Source: Ko, Peddinti, Povey & Khudanpur (2015), "Audio
    augmentation for speech recognition", Interspeech.
    """

    factors: tuple[float, ...] = (0.9, 1.1)

    def __post_init__(self) -> None:
        if not self.factors:
            raise ValueError("factors must have at least one element")
        for factor in self.factors:
            check_range("factors", (factor, factor), 0.5, 2)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        factor = self.factors[int(rng.integers(len(self.factors)))]
        return _resample(samples, Fraction(factor).limit_denominator(LARGEST_DENOMINATOR))


@dataclass(frozen=True)
class Tempo(Transform):
    """Faster (above 1) or slower speech at the same pitch. Changes the length, to `n_samples / rate` rounded.

    Source: the phase vocoder, Flanagan & Golden (1966), Bell System Technical Journal 45. Onsets are slightly smeared.
    """

    rate: Range = (0.9, 1.1)

    def __post_init__(self) -> None:
        check_range("rate", self.rate, 0.5, 2)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        return _stretch(samples, sample_rate, draw_uniform(self.rate, rng))


@dataclass(frozen=True)
class Pitch(Transform):
    """Higher or lower speech at the same tempo and length; formants change with the pitch."""

    semitones: Range = (-2.0, 2.0)

    def __post_init__(self) -> None:
        check_range("semitones", self.semitones, -12, 12)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        ratio = Fraction(2 ** (draw_uniform(self.semitones, rng) / 12)).limit_denominator(LARGEST_DENOMINATOR)
        slow = _stretch(samples, sample_rate, 1 / float(ratio))
        return fit_length(_resample(slow, ratio), len(samples))


def _resample(samples: Samples, factor: Fraction) -> Samples:
    """Return the samples resampled to play `factor` times as fast."""
    import torch
    import torchaudio

    resample = torchaudio.functional.resample
    resampled: Samples = resample(torch.tensor(samples), factor.numerator, factor.denominator).numpy()
    return resampled


def _stretch(samples: Samples, sample_rate: int, rate: float) -> Samples:
    """Return the samples `rate` times as fast at the same pitch and level, `(round(n_samples / rate),)`."""
    import torch
    import torchaudio

    hop = max(1, round(WINDOW_S / 4 * sample_rate))
    n_fft = 4 * hop
    window = torch.hann_window(n_fft, dtype=torch.float64)  # phases accumulate over the clip, where float32 would drift
    padded = torch.nn.functional.pad(torch.tensor(samples, dtype=torch.float64), (0, n_fft))
    spectrum = torch.stft(padded, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    stretched = torchaudio.functional.phase_vocoder(spectrum, rate, advance)
    waveform: Samples = torch.istft(stretched, n_fft, hop, window=window, length=round(len(samples) / rate)).numpy()
    # Phases of overlapping frames differ slightly, which lowers the level by about 1 dB.
    level = compute_rms(samples)
    return (waveform * (level / max(compute_rms(waveform), SILENCE_PEAK * level))).astype(np.float32)
