"""Effects of transmission channels: a narrower band, quantisation, lossy coding. Length and level stay the same."""

import io
from dataclasses import dataclass

import numpy as np

from ser_platform.corpora.audio.reader import MIN_RATE, SAMPLE_RATE, Audio
from ser_platform.features.augmentation.transform import (
    Range,
    Samples,
    Transform,
    check_range,
    draw_uniform,
    fit_length,
)

FILTER_HEADROOM = np.float32(4)  # torchaudio clips the output of filters at full scale, and filtering may raise a peak
MU_LAW_STEPS = 256  # 8 bits, ITU-T G.711
FORMATS = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS"}
MAX_COMPRESSION = 0.99  # libsndfile refuses 1 for MP3
WRITE_BLOCK_SAMPLES = 4096  # libvorbis overflows the stack on longer blocks (libsndfile issue 1095)


@dataclass(frozen=True)
class BandLimit(Transform):
    """The band above `low_hz` (12 dB per octave) and below half of `rate_hz`.

    The defaults are the telephone band (300 to 3400 Hz, ITU-T G.712) with a less steep lower edge. A clip with at most
    this sample rate keeps its upper edge.
    """

    rate_hz: int = 8_000  # Hz
    low_hz: float = 300.0  # Hz; 0 is no lower edge

    def __post_init__(self) -> None:
        check_range("rate_hz", (self.rate_hz, self.rate_hz), MIN_RATE, 48_000)
        check_range("low_hz", (self.low_hz, self.low_hz), 0, self.rate_hz / 4)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        import torch
        import torchaudio

        if self.low_hz:
            scale = FILTER_HEADROOM * _measure_overshoot(samples)
            lifted = torchaudio.functional.highpass_biquad(torch.tensor(samples / scale), sample_rate, self.low_hz)
            samples = lifted.numpy() * scale
        if sample_rate <= self.rate_hz:
            return samples
        narrow = Audio(samples, sample_rate).resample(self.rate_hz)
        return fit_length(Audio(narrow, self.rate_hz).resample(sample_rate), len(samples))


@dataclass(frozen=True)
class MuLaw(Transform):
    """Every sample in 8 bits on a logarithmic scale, as in telephony (ITU-T G.711)."""

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        import torch
        import torchaudio

        scale = _measure_overshoot(samples)
        steps = torchaudio.functional.mu_law_encoding(torch.tensor(samples / scale), MU_LAW_STEPS)
        decoded: Samples = torchaudio.functional.mu_law_decoding(steps, MU_LAW_STEPS).numpy()
        return decoded * scale


@dataclass(frozen=True)
class Codec(Transform):
    """Coding as MP3 or Ogg Vorbis at 16 kHz, with a variable bit rate, and decoding, without delay.

    The result of a very quiet clip may be silent, which is refused.
    """

    format: str = "mp3"
    compression: Range = (0.3, 0.95)  # libsndfile's scale: 0 is the best quality, 0.99 the smallest file

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {self.format!r}")
        check_range("compression", self.compression, 0, MAX_COMPRESSION)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        scale = _measure_overshoot(samples)
        resampled = Audio(samples / scale, sample_rate).resample(SAMPLE_RATE)  # MP3 has nine sample rates only
        coded = self._encode_and_decode(resampled, draw_uniform(self.compression, rng))
        return fit_length(Audio(coded, SAMPLE_RATE).resample(sample_rate), len(samples)) * scale

    def _encode_and_decode(self, samples: Samples, compression: float) -> Samples:
        import soundfile

        file = io.BytesIO()
        how = {"format": self.format.upper(), "subtype": FORMATS[self.format], "compression_level": compression}
        with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, **how) as writer:
            for first in range(0, len(samples), WRITE_BLOCK_SAMPLES):
                writer.write(samples[first : first + WRITE_BLOCK_SAMPLES])
        file.seek(0)
        decoded: Samples = soundfile.read(file, dtype="float32")[0]
        return decoded


def _measure_overshoot(samples: Samples) -> np.float32:
    """Return the factor by which the peak exceeds full scale, at least 1: coders clip at full scale."""
    return np.float32(max(1.0, float(np.abs(samples).max())))
