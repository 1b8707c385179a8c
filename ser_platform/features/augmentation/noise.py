"""Synthetic noise added to speech."""

from dataclasses import dataclass

import numpy as np

from ser_platform.features.augmentation.transform import Range, Samples, Transform, check_range, draw_uniform

COLOURS = ("white", "pink")


@dataclass(frozen=True)
class Noise(Transform):
    """Gaussian noise: white (the same power in every hertz) or pink (in every octave).

    The signal-to-noise ratio uses the energy of the whole clip, pauses included, over the whole band.
    """

    snr_db: Range = (15.0, 30.0)  # dB
    colour: str = "white"

    def __post_init__(self) -> None:
        check_range("snr_db", self.snr_db, -20, 80)
        if self.colour not in COLOURS:
            raise ValueError(f"colour must be one of {', '.join(COLOURS)}; got {self.colour!r}")

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        import torch
        import torchaudio

        noise = rng.standard_normal(len(samples), dtype=np.float32)
        if self.colour == "pink":
            noise = _make_pink(noise)
        snr_db = torch.tensor(draw_uniform(self.snr_db, rng))
        mixed: Samples = torchaudio.functional.add_noise(torch.tensor(samples), torch.tensor(noise), snr_db).numpy()
        return mixed


def _make_pink(white: Samples) -> Samples:
    """Return the noise with power proportional to 1 / frequency and zero mean."""
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, len(white)).astype(np.float32)
