"""Signals for tests of augmentation, and measurements of them."""

import numpy as np

RATE = 16_000  # Hz
DIGEST = "ab" * 32


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def speechlike(seconds: float = 1.5, sample_rate: int = RATE) -> np.ndarray:
    """Return a voice of 140 Hz with harmonics, modulated four times a second, with faint noise."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    voice *= 0.1 * np.clip(np.sin(2 * np.pi * 4 * t), 0, 1)
    return (voice + rng(7).normal(0, 1e-4, len(t))).astype(np.float32)


def hanning(seconds: float) -> np.ndarray:
    return np.hanning(round(seconds * RATE)).astype(np.float32)


def peak_hz(samples: np.ndarray, sample_rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(spectrum.argmax() * sample_rate / (8 * len(samples)))


def energy(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def db(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def cents(ratio: float) -> float:
    return float(1200 * np.log2(ratio))
