"""Noise under the speech: made, or from recordings."""

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio

from ser_platform.features.augmentation.sounds import SoundFolder
from ser_platform.features.augmentation.time_shift import draw_loud_part
from ser_platform.features.augmentation.transform import Range, Samples, Transform, check_range, draw_uniform

COLOURS = ("white", "pink")
LOWEST_SNR_DB, HIGHEST_SNR_DB = -20, 80


@dataclass(frozen=True)
class Noise(Transform):
    """Gaussian noise: white (the same power in every hertz) or pink (in every octave).

    The signal-to-noise ratio is of the whole clip's energy, pauses included, over the whole band.
    """

    snr_db: Range = (15.0, 30.0)  # dB
    colour: str = "white"

    def __post_init__(self) -> None:
        check_range("snr_db", self.snr_db, LOWEST_SNR_DB, HIGHEST_SNR_DB)
        if self.colour not in COLOURS:
            raise ValueError(f"colour must be one of {', '.join(COLOURS)}; got {self.colour!r}")

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        noise = rng.standard_normal(len(samples), dtype=np.float32)
        return _mix_at_snr(
            samples, _make_pink(noise) if self.colour == "pink" else noise, draw_uniform(self.snr_db, rng)
        )


@dataclass(frozen=True)
class RecordedNoise(Transform):
    """A random part of a random recording, repeated where it is too short; never a silent part.

    The signal-to-noise ratio is of the whole clip's energy over that of the part.
    """

    sounds: SoundFolder
    snr_db: Range = (10.0, 25.0)  # dB

    def __post_init__(self) -> None:
        check_range("snr_db", self.snr_db, LOWEST_SNR_DB, HIGHEST_SNR_DB)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        sound = self.sounds.draw(sample_rate, rng)
        part = draw_loud_part(sound, min(len(sound), len(samples)), rng)
        return _mix_at_snr(samples, np.resize(part, len(samples)), draw_uniform(self.snr_db, rng))


def _make_pink(white: Samples) -> Samples:
    """Return the noise with its power falling as 1 / frequency, without a mean."""
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, len(white)).astype(np.float32)


def _mix_at_snr(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    mixed: Samples = torchaudio.functional.add_noise(
        torch.tensor(samples), torch.tensor(noise), torch.tensor(snr_db)
    ).numpy()
    return mixed
